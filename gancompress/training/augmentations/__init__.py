"""Augmentations, one file each: what the discriminator sees instead of the images themselves.

An augmentation is a function (images (n, c, h, w), CPU generator, options by name) -> images of
the same shape, differentiable, registered in `AUGMENTATIONS`. Drop a file in here and its name is
known: there is no list, and nothing else to touch.
"""
