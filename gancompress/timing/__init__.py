"""How long a generator takes on this machine: measured operators, predictions at any widths."""
