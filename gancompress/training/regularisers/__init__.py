"""Regularisers, one file each: penalties on gradients, in the loss of one of the two networks.

One of the discriminator is a function (seen: `Judging`, options by name) -> scalar; one of the
generator is registered with ``side="generator"`` and gets a `Making`. One with a state is an
``nn.Module`` with buffers, made once a run with its options and saved with it. They are registered
in `REGULARISERS`, and their weight and how often they act stand in the recipe.
"""
