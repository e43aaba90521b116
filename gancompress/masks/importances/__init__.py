"""Importances, one file each: which channels are worth keeping.

An importance is a function (group, mask, tensors, seed, options by name) -> (c,), or a class that
is made with its options and called like that, registered in `IMPORTANCES`;
`gancompress.masks.importance` says what is expected of it. Drop a file in here and its name is
known: there is no list, and nothing else to touch.
"""
