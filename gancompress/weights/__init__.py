"""Weight files of others: what a file is, reading it safely, and fitting it to a network.

`reading` is the one place of the package that opens a pickle, and it runs nothing that a file
names; `inspection` of the bytes comes first, in `formats` and `pickles`, before memory is taken.
`matching` knows the spellings under which the same weights are published.
"""
