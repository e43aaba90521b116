"""Allocations, one file each: how many channels each group gives.

An allocation is a function (graph, values, alive, options by name) -> keys by group, registered in
`ALLOCATIONS`; `gancompress.masks.allocation` says what is expected of it. Drop a file in here and
its name is known: there is no list, and nothing else to touch.
"""
