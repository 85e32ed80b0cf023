"""Benchmarks; each module prints its figures and can be run alone."""
