"""Reference generators and discriminators."""

from gancompress.models.biggan import BigGANDiscriminator, BigGANGenerator
from gancompress.models.config import BigGANConfig

__all__ = ["BigGANConfig", "BigGANDiscriminator", "BigGANGenerator"]
