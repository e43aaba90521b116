"""How plug-ins are found, and how their options are read: the mechanism, never a method.

One file a concern: `kinds` (every kind with its folder), `sources` (who registers what, read
without importing), `options` (a signature is the declaration), `loading` (modules of the user's
own). A new method touches nothing here; a new *kind* of plug-in is one line in `kinds`. Nothing
in this package may import torch: `gancompress recipes` and `validate` run on it.
"""
