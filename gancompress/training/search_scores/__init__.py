"""Search scores, one file each: how good a network is that is narrower than it was.

A search score is a function (asked, options by name) -> number, larger is better, registered in
`SEARCH_SCORES`; `gancompress.training.width_search` says what it is given. Drop a file in here and
its name is known: there is no list, and nothing else to touch.
"""
