"""Networks whose features the loss ``perceptual`` compares, one file each.

One is a function (weights: path of a file that the user has) -> frozen ``nn.Module`` in eval mode
that takes outputs (n, c, *space) to a list of feature maps, registered in `FEATURE_NETWORKS`.
Nothing is downloaded, and nothing in the file is run.
"""
