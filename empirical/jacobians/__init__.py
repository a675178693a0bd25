"""The decoder as a chain: layers linearised, operators, their leading triplets, and what is measured of them."""
