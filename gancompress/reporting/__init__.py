"""How results are shown: tables, pictures, curves, and one HTML file of a run."""
