"""Reconstruction: weights of a cut network that reproduce what the whole one computes."""
