"""Losses between an output and the one that was wanted; a new file here is found by its name."""
