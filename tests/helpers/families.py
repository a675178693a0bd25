"""One builder for every family of chains, with what it prescribes: for tests that run over all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import theory


@dataclass(frozen=True, slots=True)
class Built:
    """A chain and what was asked of it.

    Attributes:
        chain: as built.
        spectrum: singular values of each layer, descending, shape (L, d); None where they are random.
        alignment: kappa_l, shape (L,), entry 0 without meaning; None where it is random.
    """

    chain: theory.Chain
    spectrum: NDArray[np.float64] | None = None
    alignment: NDArray[np.float64] | None = None


Builder = Callable[[int, int, np.random.Generator, tuple[int, ...], str], Built]


def _numbers(depth: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """sigma, gap, alignment that vary by layer."""
    step = np.arange(depth) / max(depth, 1)
    return 0.5 + 1.5 * step, 0.1 + 0.8 * step, 0.95 - 0.9 * step


def _spectrum(sigma: NDArray[np.float64], relative: NDArray[np.float64]) -> NDArray[np.float64]:
    return sigma[:, None] * np.concatenate([np.ones((sigma.size, 1)), relative], axis=1)


def flat(isometry: str) -> Builder:
    def build(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
        sigma, gap, alignment = _numbers(depth)
        chain = theory.flat_chain(
            depth,
            d,
            rng,
            sigma=sigma,
            gap=gap,
            alignment=alignment,
            isometry=isometry,  # pyright: ignore[reportArgumentType]
            batch=batch,
            dtype=dtype,
        )
        return Built(chain, _spectrum(sigma, np.repeat(gap[:, None], d - 1, axis=1)), alignment)

    return build


def profile(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
    sigma, gap, alignment = _numbers(depth)
    values = gap[:, None] * np.linspace(1, 0, d - 1)
    chain = theory.profile_chain(
        depth,
        d,
        rng,
        residual_values=values,
        gap=values[:, 0],
        alignment=alignment,
        sigma=sigma,
        batch=batch,
        dtype=dtype,
    )
    return Built(chain, _spectrum(sigma, values), alignment)


def low_rank(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
    sigma, gap, alignment = _numbers(depth)
    rank = max(1, (d - 1) // 2)
    chain = theory.low_rank_chain(
        depth, d, rng, rank=rank, gap=gap, alignment=alignment, sigma=sigma, batch=batch, dtype=dtype
    )
    values = np.zeros((depth, d - 1))
    values[:, :rank] = gap[:, None]
    return Built(chain, _spectrum(sigma, values), alignment)


def twisted(sense: str, rotated: bool) -> Builder:
    def build(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
        sigma, gap, alignment = _numbers(depth)
        chain = theory.twisted_chain(
            alignment,
            gap,
            depth,
            sigma=sigma,
            sense=sense,  # pyright: ignore[reportArgumentType]
            dimension=d,
            rng=rng if rotated else None,
            batch=batch,
            dtype=dtype,
        )
        values = np.zeros((depth, d - 1))
        values[:, 0] = gap
        return Built(chain, _spectrum(sigma, values), alignment)

    return build


def residual(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
    strength = np.linspace(0.5, 2.0, depth)
    return Built(theory.residual_chain(depth, d, rng, strength=strength, rank=2, drift=0.1, batch=batch, dtype=dtype))


def learned(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
    updates = 0.3 * rng.standard_normal((*batch, depth, d, d))
    s = np.linalg.svd(np.eye(d) + updates, compute_uv=False) if not batch else None
    return Built(theory.residual_chain_of(updates, dtype=dtype), s)


def gaussian(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
    return Built(theory.gaussian_chain(depth, d, rng, scale=1.5, batch=batch, dtype=dtype))


def orthogonal(depth: int, d: int, rng: np.random.Generator, batch: tuple[int, ...], dtype: str) -> Built:
    sigma = _numbers(depth)[0]
    chain = theory.orthogonal_chain(depth, d, rng, sigma=sigma, batch=batch, dtype=dtype)
    return Built(chain, _spectrum(sigma, np.ones((depth, d - 1))))


FAMILIES: dict[str, Builder] = {
    "flat, Haar": flat("haar"),
    "flat, reflection": flat("reflection"),
    "profile": profile,
    "low rank": low_rank,
    "twisted, fastest": twisted("fastest", False),
    "twisted, slowest, rotated": twisted("slowest", True),
    "residual": residual,
    "learned residual": learned,
    "gaussian": gaussian,
    "orthogonal": orthogonal,
}
"""Every family, with numbers that vary by layer; all need d >= 2."""
