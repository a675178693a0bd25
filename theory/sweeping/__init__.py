"""Sweeps over grids of chains: what is asked for, what it costs, its parts on disk, its figures as numbers."""
