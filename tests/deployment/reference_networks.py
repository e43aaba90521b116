"""The generators that come with gancompress, at sizes that take no time."""

from __future__ import annotations

from gancompress.models import (
    BigGANConfig,
    BigGANGenerator,
    HiFiGANConfig,
    HiFiGANGenerator,
    ResnetGenerator,
    RRDBNet,
    SPADEConfig,
    SPADEGenerator,
    SRVGGNetCompact,
    UnetGenerator,
)

SMALL = {
    "biggan": lambda: BigGANGenerator(BigGANConfig(resolution=32, n_classes=4, ch=8, dim_z=8)),
    "hifigan": lambda: HiFiGANGenerator(
        HiFiGANConfig(
            upsample_initial_channel=16, upsample_rates=(4,), upsample_kernel_sizes=(8,),
            resblock="2", resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1, 2),),
            num_mels=6,
        )
    ),
    "rrdb": lambda: RRDBNet(num_feat=8, num_block=1, num_grow_ch=4),
    "srvgg": lambda: SRVGGNetCompact(num_feat=8, num_conv=2),
    "resnet": lambda: ResnetGenerator(ngf=4, n_blocks=1),
    "unet": lambda: UnetGenerator(num_downs=5, ngf=4),
    "spade": lambda: SPADEGenerator(
        SPADEConfig(label_nc=3, contain_dontcare_label=False, no_instance=True, ngf=4, crop_size=32)
    ),
}  # fmt: skip
