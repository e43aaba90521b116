"""What networks learn from: every way in ends as a `Dataset` whose batches are picked by index.

`folders.open_images` is the way in for paths, `adapters.adapt` for objects of other libraries,
`sound.open_sound` and `pairs.paired` for sound and pairs. A batch is a function of the indices;
what was done to the files is told by ``notes``. Nothing here knows networks or losses.
"""
