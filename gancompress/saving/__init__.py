"""save() and load(): weights and plan in a folder, rebuilt on the user's own class, no pickle."""

from gancompress.saving.load import load
from gancompress.saving.save import save

__all__ = ["load", "save"]
