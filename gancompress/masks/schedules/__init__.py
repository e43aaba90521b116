"""Schedules, one file each: which share of the removal is done at a given progress.

A schedule is a function (u in [0, 1], options by name) -> share in [0, 1] that never falls,
registered in `SCHEDULES`. Drop a file in here and its name is known: there is no list, and nothing
else to touch.
"""
