"""Super-resolution and restoration generators."""

from __future__ import annotations

import torch

from .registry import Built, model, old_torchvision


def _picture(size: int = 16) -> tuple[torch.Tensor]:
    return (torch.randn(1, 3, size, size),)


@model("spandrel==0.4.2", "restoration")
def spandrel_rrdb() -> Built:
    from spandrel.architectures.ESRGAN import ESRGAN

    return ESRGAN(num_filters=32, num_blocks=3), _picture(), {}


@model("spandrel==0.4.2", "restoration")
def spandrel_compact() -> Built:
    from spandrel.architectures.Compact import Compact

    return Compact(num_feat=32, num_conv=6, upscale=4), _picture(), {}


@model("spandrel==0.4.2", "restoration")
def spandrel_swinir() -> Built:
    from spandrel.architectures.SwinIR import SwinIR

    net = SwinIR(
        img_size=16,
        embed_dim=24,
        depths=[2, 2],
        num_heads=[3, 3],
        window_size=4,
        upscale=2,
        upsampler="nearest+conv",
    )
    return net, _picture(), {}


@model("spandrel==0.4.2", "restoration")
def spandrel_realcugan() -> Built:
    from spandrel.architectures.RealCUGAN import UpCunet2x

    return UpCunet2x(), (torch.rand(1, 3, 48, 48),), {}


@model("spandrel==0.4.2", "restoration")
def spandrel_span() -> Built:
    from spandrel.architectures.SPAN import SPAN

    return SPAN(num_in_ch=3, num_out_ch=3, feature_channels=24, upscale=2), _picture(), {}


@model("spandrel==0.4.2", "restoration")
def spandrel_mosr() -> Built:
    from spandrel.architectures.MoSR import MoSR

    return MoSR(n_block=3, dim=32, upscale=2), _picture(), {}


@model("spandrel==0.4.2", "restoration")
def spandrel_swift_srgan() -> Built:
    from spandrel.architectures.SwiftSRGAN import SwiftSRGAN

    return SwiftSRGAN(num_channels=32, num_blocks=3, upscale_factor=2), _picture(), {}


@model("spandrel==0.4.2", "restoration")
def spandrel_restoreformer() -> Built:
    from spandrel.architectures.RestoreFormer import RestoreFormer

    net = RestoreFormer(
        n_embed=64,
        embed_dim=32,
        ch=32,
        ch_mult=(1, 2, 2),
        resolution=32,
        attn_resolutions=(8,),
        z_channels=32,
        enable_mid=True,
        head_size=4,
    )
    return net, _picture(32), {}


@model("basicsr==1.4.2", "restoration")
def basicsr_msrresnet() -> Built:
    old_torchvision()
    from basicsr.archs.srresnet_arch import MSRResNet

    return MSRResNet(num_feat=32, num_block=4), _picture(), {}


@model("basicsr==1.4.2", "restoration")
def basicsr_rcan() -> Built:
    old_torchvision()
    from basicsr.archs.rcan_arch import RCAN

    net = RCAN(3, 3, num_feat=32, num_group=2, num_block=2, squeeze_factor=8, upscale=2)
    return net, _picture(), {}


@model("torchsr==1.0.4", "restoration")
def torchsr_ninasr() -> Built:
    from torchsr.models.ninasr import NinaSR

    return NinaSR(4, 24, 2), (torch.rand(1, 3, 16, 16),), {}
