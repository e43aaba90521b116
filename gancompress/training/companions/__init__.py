"""Companions, one file each: what acts before and after the two updates of a step.

A companion is made by a function or class (company, options by name), registered in `COMPANIONS`;
`gancompress.training.companion` says what is expected of it. Drop a file in here and its name is
known: there is no list, and nothing else to touch.
"""
