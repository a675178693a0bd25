"""Regimes predicted from a chain's numbers, and their boundaries."""
