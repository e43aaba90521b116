"""Scores, one file each: what a channel is worth to the uncut generator at work.

A score is a function (look, options by name) -> values by group, registered in `SCORES`;
`gancompress.training.score` says what is expected of it. Drop a file in here and its name is known:
there is no list, and nothing else to touch.
"""
