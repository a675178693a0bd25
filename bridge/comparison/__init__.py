"""Predicted against observed: regimes, statistics, pooled observables, and the numbers the paper published."""
