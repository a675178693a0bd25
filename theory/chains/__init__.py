"""Chains of layers: the type, its families, and what is measured back from them."""
