"""Conformance suite: small generators, one idiom each, that the surgeon must cut exactly."""
