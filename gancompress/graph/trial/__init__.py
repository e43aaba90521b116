"""Trial cuts: which groups must stay because Python code holds their size, found by trying."""
