"""What is measured, for arrays of any library; imports neither jax nor torch."""

from observables.alignment import RandomAlignment
from observables.covariance import CovarianceSums, covariance_eigenvalues
from observables.decay import SpectralAlpha, spectral_alpha
from observables.positional import (
    PositionalAlignment,
    PositionalSubspaces,
    positional_alignment,
    positional_subspaces,
)
from observables.records import ChainParameters
from observables.spectrum import (
    effective_rank,
    kirchhoff_index,
    participation_ratio,
    reason,
    share_of_first,
    stable_rank,
    tail_ratio,
)

__all__ = [
    "ChainParameters",
    "CovarianceSums",
    "PositionalAlignment",
    "PositionalSubspaces",
    "RandomAlignment",
    "SpectralAlpha",
    "covariance_eigenvalues",
    "effective_rank",
    "kirchhoff_index",
    "participation_ratio",
    "positional_alignment",
    "positional_subspaces",
    "reason",
    "share_of_first",
    "spectral_alpha",
    "stable_rank",
    "tail_ratio",
]
