"""Covariances of many clips and what their eigenvalues become when clips are drawn anew, both by walking through clips.

Neither keeps a clip's rows: a covariance is (n, mean, M2), and a resampled spectrum is sums over clips weighted by how
often each draw takes them. Memory is that of the covariances and draws, whatever the number of clips.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from observables import CovarianceSums
from observables.decompositions import eigenvectors

Rows = NDArray[np.float64]

BLOCK_ROWS = 512
"""Rows gathered before they are summed: a merge touches all of M2, which one clip of 20 tokens is not worth."""

BLOCK_NUMBERS = 2**17
"""Rows x features gathered before they are projected: a megabyte a side, whatever the width."""

LEADING = 256
"""Directions whose variances are resampled. The proxies read 50 at most; variances so far behind do not come forward in
a resample, and all of d = 1280 would be five times the work."""


class RunningSums:
    """CovarianceSums of rows that come clip by clip."""

    def __init__(self) -> None:
        self._sums: CovarianceSums | None = None
        self._waiting: list[Rows] = []
        self._rows = 0

    def add(self, rows: Rows) -> None:
        """Takes rows (n, d)."""
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows >= BLOCK_ROWS:
            self._flush()

    def result(self) -> CovarianceSums | None:
        """The sums so far; None where nothing was added."""
        if self._waiting:
            self._flush()
        return self._sums

    def _flush(self) -> None:
        block = CovarianceSums.from_rows(np.concatenate(self._waiting))
        self._sums = block if self._sums is None else self._sums.merge(block)
        self._waiting, self._rows = [], 0


def merged(parts: Sequence[CovarianceSums | None]) -> CovarianceSums | None:
    """Sums of all parts together; None where there are none."""
    known = [one for one in parts if one is not None]
    if not known:
        return None
    sums = known[0]
    for one in known[1:]:
        sums = sums.merge(one)
    return sums


class Resamples:
    """How often each of a model's clips is drawn in each resample.

    The draw is over every clip of the model, whatever a stress lost to quarantine: so the same clips are drawn for
    every layer, component and stress, and averages over them keep their pairing.

    Args:
        everyone: all clips of the model, sorted.
        count: number of resamples.
        seed: of the draw.
    """

    def __init__(self, everyone: Sequence[str], count: int, seed: int) -> None:
        clips = len(everyone)
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(clips, np.full(clips, 1.0 / clips), size=count) if clips else np.empty((count, 0))
        self._times = drawn.astype(np.uint16 if clips < 2**16 else np.uint32)
        self._place = {name: column for column, name in enumerate(everyone)}
        self.count = count

    def of(self, clips: Sequence[str]) -> NDArray[np.float64]:
        """Weights (resamples, clips)."""
        return self._times[:, [self._place[name] for name in clips]].astype(np.float64)


class ResampledSpectrum:
    """Eigenvalues of a pooled covariance when clips are drawn anew, to first order.

    The directions stay those of the pooled covariance and only the variances along them are re-pooled: one
    decomposition serves every resample, at any width. Re-pooling the whole covariance instead repeats clips, so that it
    has fewer distinct rows than the data; its small eigenvalues, and K_f with them, then scatter two to three times as
    widely as those of fresh data (d = 96, 24 clips of 10-14 tokens), where this is right to about a fifth
    (tests/bridge/test_pooled.py). From few clips a mode it is far too narrow for the smallest of K eigenvalues
    (`pooled_spectra.CLIPS_A_MODE`).

    Args:
        sums: the pooled covariance.
        resamples: the draws.
        leading: directions that are followed, the ones of largest variance.
    """

    def __init__(self, sums: CovarianceSums, resamples: Resamples, leading: int = LEADING) -> None:
        vectors = eigenvectors("the pooled covariance", sums.covariance())
        self._directions = np.ascontiguousarray(vectors[:, -leading:])  # ascending
        self._mean = sums.mean
        self._resamples = resamples
        shape = (resamples.count, self._directions.shape[1])
        self._n, self._first, self._second = np.zeros(resamples.count), np.zeros(shape), np.zeros(shape)
        self._clips: list[str] = []
        self._waiting: list[Rows] = []
        self._rows = 0

    def add(self, clip: str, rows: Rows) -> None:
        """Takes rows (n, d) of a clip."""
        if not len(rows):
            return
        self._clips.append(clip)
        self._waiting.append(rows)
        self._rows += len(rows)
        if self._rows * len(self._mean) >= BLOCK_NUMBERS:
            self._flush()

    def eigenvalues(self, count: int | None = None) -> NDArray[np.float64]:
        """Descending variances along the fixed directions, (resamples, directions), the `count` largest or all; NaN
        where a draw has no row."""
        if self._clips:
            self._flush()
        n = self._n[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            variances = (self._second - self._first**2 / n) / np.maximum(n - 1.0, 1.0)
        if count is not None and count < variances.shape[1]:
            variances = np.partition(variances, -count, axis=1)[:, -count:]
        return np.sort(variances, axis=1)[:, ::-1]

    def _flush(self) -> None:
        lengths = np.array([len(rows) for rows in self._waiting])
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        along = (np.concatenate(self._waiting) - self._mean) @ self._directions
        weights = self._resamples.of(self._clips)
        self._n += weights @ lengths
        self._first += weights @ np.add.reduceat(along, starts, axis=0)
        self._second += weights @ np.add.reduceat(along**2, starts, axis=0)
        self._clips, self._waiting, self._rows = [], [], 0
