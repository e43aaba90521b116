"""Image GANs, translation and segmentation-like generators, at sizes that run in a second."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from .registry import Built, mocked, model, pretended_cuda, stand_in


def _normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape)


@model("pytorch-pretrained-biggan==0.1.1", "image")
def biggan_deep_hf() -> Built:
    from pytorch_pretrained_biggan import BigGAN, BigGANConfig

    sizes = [16, 16, 16, 8, 8, 4, 4, 2, 2]
    doubles = [False, True, False, True, False, True, False, True, False, True]
    layers = list(zip(doubles, [16, *sizes], [*sizes, 1], strict=True))
    config = BigGANConfig(
        output_dim=128,
        z_dim=32,
        class_embed_dim=32,
        channel_width=16,
        num_classes=10,
        layers=layers,
        attention_layer_position=6,
        n_stats=51,
    )
    label = torch.zeros(2, 10)
    label[:, 3] = 1
    network = BigGAN(config)
    # The class leaves these as they lay in memory; checkpoints fill them.
    nn.init.ones_(network.generator.bn.weight)
    nn.init.zeros_(network.generator.bn.bias)
    return network, (_normal(2, 32), label, 0.7), {}


def _stylegan2(size: int, attention: list[int]) -> Built:
    stand_in("aim", Session=object, Run=object)
    with pretended_cuda():
        from stylegan2_pytorch.stylegan2_pytorch import Generator
    net = Generator(size, size, network_capacity=8, fmap_max=64, attn_layers=attention)
    return net, (_normal(2, net.num_layers, size), torch.rand(2, size, size, 1)), {}


@model("stylegan2_pytorch==1.9.0", "image")
def stylegan2_lucidrains() -> Built:
    return _stylegan2(64, [])


@model("stylegan2_pytorch==1.9.0", "image")
def stylegan2_lucidrains_attn() -> Built:
    return _stylegan2(32, [2])


@model("lightweight-gan==1.2.1", "image")
def lightweight_gan() -> Built:
    stand_in("aim", Session=object, Run=object)
    with pretended_cuda():
        from lightweight_gan.lightweight_gan import Generator
    net = Generator(image_size=64, latent_dim=64, fmap_max=64, attn_res_layers=[])
    return net, (_normal(2, 64),), {}


@model("torchgan==0.1.0", "image")
def torchgan_dcgan() -> Built:
    from torchgan.models import DCGANGenerator

    return DCGANGenerator(encoding_dims=32, out_size=32, step_channels=16), (_normal(2, 32),), {}


@model("torchgan==0.1.0", "image")
def torchgan_cgan() -> Built:
    from torchgan.models import ConditionalGANGenerator

    net = ConditionalGANGenerator(num_classes=5, encoding_dims=32, out_size=32, step_channels=16)
    return net, (_normal(2, 32), torch.tensor([1, 3])), {}


@model("torchgan==0.1.0", "image")
def torchgan_autoenc() -> Built:
    from torchgan.models import AutoEncodingGenerator

    net = AutoEncodingGenerator(encoding_dims=32, out_size=32, step_channels=16, scale_factor=2)
    return net, (_normal(2, 32),), {}


@model("pytorch-gan-zoo==0.0.6", "image")
def ganzoo_dcgan() -> Built:
    from ganzoo.nn_modules.dcgan_nets import DCGAN_Generator

    return DCGAN_Generator(32, 16, 64, 3), (_normal(2, 32, 1, 1),), {}


def _mimicry_imports() -> None:
    mocked("tensorflow")  # for its metrics only
    stand_in("torch._six", PY3=True)
    import sys
    import types

    if "torch._six" not in sys.modules:
        six = types.ModuleType("torch._six")
        vars(six)["PY3"] = True
        sys.modules["torch._six"] = six


@model("torch-mimicry==0.1.16", "image")
def mimicry_sngan32() -> Built:
    _mimicry_imports()
    from torch_mimicry.nets.sngan import SNGANGenerator32

    return SNGANGenerator32(nz=32, ngf=32), (_normal(2, 32),), {}


@model("torch-mimicry==0.1.16", "image")
def mimicry_cgan_pd32() -> Built:
    _mimicry_imports()
    from torch_mimicry.nets.cgan_pd import CGANPDGenerator32

    net = CGANPDGenerator32(num_classes=5, nz=32, ngf=32)
    return net, (_normal(2, 32), torch.tensor([1, 3])), {}


@model("torch-mimicry==0.1.16", "image")
def mimicry_sagan32() -> Built:
    _mimicry_imports()
    from torch_mimicry.nets.sagan import SAGANGenerator32

    net = SAGANGenerator32(num_classes=5, nz=32, ngf=32)
    return net, (_normal(2, 32), torch.tensor([1, 3])), {}


@model("gan-lab==0.4.2", "image")
def gan_lab_stylegan() -> Built:
    stand_in("indexed", IndexedOrderedDict=OrderedDict)
    from gan_lab.stylegan.architectures import StyleGenerator

    truncation = {"beta": 0.995, "psi": 0.7, "cutoff_stage": None}
    net = StyleGenerator(
        final_res=16,
        len_latent=32,
        len_dlatent=32,
        mapping_num_fcs=2,
        truncation_trick_params=truncation,
    )
    net.increase_scale()
    net.increase_scale()
    net.alpha = 1.0
    return net, (_normal(2, 32),), {}


@model("pix2pixhd==1.0", "image")
def pix2pixhd_global() -> Built:
    from pix2pixhd.models.networks import GlobalGenerator

    def norm(channels: int) -> nn.Module:
        return nn.InstanceNorm2d(channels, affine=False)

    net = GlobalGenerator(3, 3, ngf=8, n_downsampling=3, n_blocks=3, norm_layer=norm)
    return net, (_normal(2, 3, 64, 64),), {}


@model("pix2pixhd==1.0", "image")
def pix2pixhd_local() -> Built:
    from pix2pixhd.models.networks import LocalEnhancer

    net = LocalEnhancer(
        3,
        3,
        ngf=8,
        n_downsample_global=2,
        n_blocks_global=2,
        n_blocks_local=2,
        norm_layer=nn.BatchNorm2d,
    )
    return net, (_normal(2, 3, 64, 64),), {}


@model("segmentation-models-pytorch==0.6.0", "image")
def smp_unet_r18() -> Built:
    import segmentation_models_pytorch as smp

    return smp.Unet("resnet18", encoder_weights=None, classes=3), (_normal(1, 3, 64, 64),), {}


@model("segmentation-models-pytorch==0.6.0", "image")
def smp_unetpp_scse() -> Built:
    import segmentation_models_pytorch as smp

    net = smp.UnetPlusPlus(
        "resnet18", encoder_weights=None, classes=3, decoder_attention_type="scse"
    )
    return net, (_normal(1, 3, 64, 64),), {}


@model("monai==1.6.1", "image")
def monai_spade_decoder() -> Built:
    from monai.networks.nets.spade_network import SPADEDecoder

    net = SPADEDecoder(
        2, 3, 4, [32, 32], [16, 32, 64], is_vae=False, spade_intermediate_channels=16
    )
    return net, (_normal(2, 4, 32, 32),), {}


@model("monai==1.6.1", "image")
def monai_generator() -> Built:
    from monai.networks.nets import Generator

    net = Generator(
        latent_shape=(32,), start_shape=(32, 8, 8), channels=(32, 16, 3), strides=(2, 2, 1)
    )
    return net, (_normal(2, 32),), {}


@model("monai==1.6.1", "image")
def monai_basicunet() -> Built:
    from monai.networks.nets import BasicUNet

    return BasicUNet(2, 1, 3, features=(16, 16, 32, 32, 64, 16)), (_normal(2, 1, 32, 32),), {}
