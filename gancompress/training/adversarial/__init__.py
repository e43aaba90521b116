"""Adversarial losses, one file each: what the discriminator and the generator minimise.

A loss is a function (options by name) -> `AdversarialLoss`, registered in `ADVERSARIAL`. Drop a
file in here and its name is known: there is no list, and nothing else to touch.
"""
