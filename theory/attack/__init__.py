"""Worst-case search: chains found by gradient ascent, against a rate or against a named bound."""
