"""Experiments in, one JSON result out, tables made from the results."""
