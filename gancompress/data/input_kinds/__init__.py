"""What ``--input NAME=KIND(...)`` can draw: one file a kind, found by themselves.

A new kind is a new file here: a function registered in ``INPUT_KINDS`` that reads the text inside
of the parentheses and returns what is drawn (`Drawn`) or read from files (`Stored`).
"""

from gancompress.data.input_kinds.protocol import INPUT_KINDS, Drawn, Stored

__all__ = ["INPUT_KINDS", "Drawn", "Stored"]
