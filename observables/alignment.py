"""The alignment of two directions that have nothing to do with each other: its law in every dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

__all__ = ["RandomAlignment"]


@dataclass(frozen=True, slots=True)
class RandomAlignment:
    """Law of |<u, v>| for independent uniform unit vectors of R^d, one of which may be fixed.

    Implements (T22): |<u, v>|^2 is Beta(1/2, (d - 1)/2), for <u, v> is one coordinate of a uniform unit vector. It
    is the null of a measured alignment when nothing but the dimension of the state is kept; sigma and gap do not
    enter it, and it says nothing of them.

    Attributes:
        dimension: d >= 1, of the state: the model's width at one position, T times that for a sequence of T.

    Raises:
        ValueError: if dimension is not a positive integer.
    """

    dimension: int

    def __post_init__(self) -> None:
        if isinstance(self.dimension, bool) or int(self.dimension) != self.dimension or self.dimension < 1:
            raise ValueError(f"dimension must be an integer of at least 1; got {self.dimension!r}")

    @property
    def mean(self) -> float:
        """Gamma(d/2) / (sqrt(pi) Gamma((d + 1)/2)), about sqrt(2 / (pi d)); dimensionless, in (0, 1]."""
        # Pochhammer's symbol keeps its digits where the difference of two log-gammas of size d ln d loses them.
        return 1.0 / (math.sqrt(math.pi) * float(special.poch(self.dimension / 2, 0.5)))

    @property
    def rms(self) -> float:
        """d^(-1/2), exactly."""
        return 1.0 / math.sqrt(self.dimension)

    def quantile(self, probability: float) -> float:
        """The alignment that is exceeded with chance 1 - probability.

        Raises:
            ValueError: if probability leaves [0, 1].
        """
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability must lie in [0, 1]; got {probability}")
        if self.dimension == 1:  # two directions of a line are parallel
            return 1.0
        return math.sqrt(float(special.betaincinv(0.5, (self.dimension - 1) / 2, probability)))

    def exceeded(self, alignment: float) -> float:
        """P(|<u, v>| >= alignment), the chance that random directions align as well as that; NaN for NaN.

        Raises:
            ValueError: if alignment leaves [0, 1].
        """
        if math.isnan(alignment):
            return math.nan
        if not 0.0 <= alignment <= 1.0:
            raise ValueError(f"alignment must lie in [0, 1]; got {alignment}")
        if self.dimension == 1:
            return 1.0
        return float(special.betaincc(0.5, (self.dimension - 1) / 2, alignment**2))
