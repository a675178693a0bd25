"""Chains by the million: the exact reductions, the factored and the dense simulator behind one face."""
