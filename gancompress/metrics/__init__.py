"""Numbers with their protocol: quality, diversity, size and speed of a generator."""
