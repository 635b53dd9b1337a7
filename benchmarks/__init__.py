"""Comparisons with plain C, run by hand: python -m pytest benchmarks. Nothing that users install."""
