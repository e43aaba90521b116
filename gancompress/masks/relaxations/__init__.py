"""Relaxations, one file each: how scores become gates, and how the gradient comes back.

A relaxation is a function (scores (c,), progress in [0, 1], options by name) -> gates (c,) in
[0, 1], registered in `RELAXATIONS`; `gancompress.masks.relax` says what is expected of it. Drop a
file in here and its name is known: there is no list, and nothing else to touch.
"""
