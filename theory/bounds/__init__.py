"""Rigorous bounds and the published ones, from a chain's numbers alone."""
