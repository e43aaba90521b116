"""Penalties, one file each: what an open channel costs the loss.

A penalty is a function (masks, price, options by name) -> scalar, registered in `PENALTIES`;
`gancompress.masks.penalty` says what is expected of it. Drop a file in here and its name is known:
there is no list, and nothing else to touch.
"""
