"""The campaign behind docs/reliability.md: one file a promise, each tried until it is proven."""
