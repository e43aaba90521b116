"""Loggers, one file each: where else a run tells what happens, beside its own folder.

A logger is a function or class (a `Place`, options by name) -> `Callback`, registered in `LOGGERS`.
Drop a file in here and its name is known: there is no list, and nothing else to touch.
"""
