"""From a few drawn choices to a dense chain: every family, every kind of injection, every corner.

A built chain is A_l = Q_l D_l G_l^T Q_{l-1}^T: Q_l a frame whose first column is u_l, D_l = sigma_l diag(1, xi_l, ...),
and G_l orthogonal with first column (kappa_l, s_l n_l), so that sigma, xi and kappa are what was asked for and the
truth is multiplied out from plain matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import theory
from observables import ChainParameters
from tests.properties.constructed import CONSTRUCTORS, constructed
from tests.properties.examples import EPS, Array, Example

__all__ = ["CHOICES", "FAMILIES", "Recipe", "build"]

FAMILIES = (
    "flat",
    "varying by layer",
    "given profile",
    "low rank",
    "twisted fastest",
    "twisted slowest",
    "twisted mixed",
    "make_chain",
    "residual I + F",
    "Gaussian",
    "orthogonal",
    *CONSTRUCTORS,
)
"""Built here, measured here, and built by the package, each under its own name."""

CHOICES = {
    "alignment_mode": ("constant", "varying", "cone", "near one", "critical", "zero", "one", "corners"),
    "gap_mode": ("constant", "small", "varying", "zero", "one", "corners"),
    "sigma_mode": ("one", "varying", "contracting", "zeros"),
    "injection_mode": ("coherent", "leaning", "adversarial", "random", "none", "sparse", "first"),
    "scale_mode": ("one", "large", "small", "layers", "injections", "all"),
}

SCALE = 498
"""Largest power of two of a layer's or an injection's scale: 2^498 is about 1e150."""

MEASURED = ("residual I + F", "Gaussian", "orthogonal")
"""Families whose parameters are measured from the finished layers, by SVD."""


@dataclass(frozen=True)
class Recipe:
    """What an example is made from; equal recipes give equal bits."""

    family: str
    seed: int
    depth: int
    dimension: int
    context: int
    alignment: float
    gap: float
    alignment_mode: str = "constant"
    gap_mode: str = "constant"
    sigma_mode: str = "one"
    injection_mode: str = "coherent"
    scale_mode: str = "one"


def build(recipe: Recipe) -> Example:
    """The example of a recipe."""
    rng = np.random.default_rng(recipe.seed)
    if recipe.family in MEASURED:
        return _measured(recipe, rng)
    planar = recipe.family.startswith("twisted") or recipe.family in ("low_rank_chain", "profile_chain")
    d = max(recipe.dimension, 2) if planar else recipe.dimension
    sigma, gap, alignment, across = _numbers(recipe, d, rng)
    if recipe.family in CONSTRUCTORS:
        return _of_package(recipe, d, (sigma, gap, alignment), rng)
    frames, turns, signs = _geometry(recipe, d, rng)
    diagonal = _profile(recipe, d, gap, rng) * signs
    diagonal[:, 0] = 1.0
    if recipe.family == "make_chain":
        return _generated(recipe, d, (sigma, gap, alignment, across), rng)
    # G_l^T x: first <(kappa, s n), x>, then the rest of a frame of which v_l is the first vector.
    right = np.zeros((recipe.depth, d, d))
    right[:, 0, 0] = alignment
    if d > 1:
        right[:, 0, 1:] = across[:, None] * turns[:, :, 0]
        right[:, 1, 0] = across
        right[:, 1, 1:] = -alignment[:, None] * turns[:, :, 0]
        right[:, 2:, 1:] = np.swapaxes(turns[:, :, 1:], 1, 2)
    if d > 2 and not recipe.family.startswith("twisted"):
        # Which input direction meets which singular value is random too.
        right[:, 1:] = _haar(rng, recipe.depth, d - 1) @ right[:, 1:]
    before = np.concatenate([_haar(rng, 1, d), frames[:-1]])
    layers = sigma[:, None, None] * (frames * diagonal[:, None, :]) @ right @ np.swapaxes(before, 1, 2)
    v = np.einsum("lij,lj->li", before, right[:, 0])
    isometries = None
    if d > 1 and (gap > 0).all() and (np.abs(diagonal[:, 1:]) == gap[:, None]).all():
        isometries = (frames * np.where(diagonal < 0, -1.0, 1.0)[:, None, :]) @ right @ np.swapaxes(before, 1, 2)
    # The direction in which the next layer looks away from u_l: where an injection across does most.
    looks = np.roll(turns[:, :, 0], -1, axis=0) if d > 1 else np.zeros((recipe.depth, 0))
    injection, along, b, coherent = _injections(recipe, d, frames, looks, rng)
    numbers = sigma, gap, alignment, across if recipe.alignment_mode == "near one" else None
    return _example(recipe, numbers, layers, frames[:, :, 0], v, (injection, along, b, coherent), rng, 0.0, isometries)


def _haar(rng: np.random.Generator, count: int, size: int) -> Array:
    q, r = np.linalg.qr(rng.standard_normal((count, size, size)))
    return q * np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]


def _numbers(recipe: Recipe, d: int, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """sigma, xi, kappa and s of every layer."""
    depth, varying = recipe.depth, recipe.family == "varying by layer"
    if d == 1:
        return _sigma(recipe, np.zeros(depth), np.ones(depth), rng), np.zeros(depth), np.ones(depth), np.zeros(depth)
    mode = "varying" if varying and recipe.gap_mode == "constant" else recipe.gap_mode
    gap = {
        "constant": lambda: np.full(depth, recipe.gap),
        "varying": lambda: recipe.gap * rng.uniform(0, 1, depth),
        "small": lambda: recipe.gap * 10.0 ** rng.uniform(-8, 0, depth),
        "zero": lambda: np.zeros(depth),
        "one": lambda: np.ones(depth),
        "corners": lambda: rng.choice([0.0, recipe.gap, 1.0], depth),
    }[mode]()
    mode = "varying" if varying and recipe.alignment_mode == "constant" else recipe.alignment_mode
    critical = float(theory.critical_alignment(float(np.max(gap))))
    alignment = {
        "constant": lambda: np.full(depth, recipe.alignment),
        "varying": lambda: rng.uniform(recipe.alignment, 1, depth),
        "cone": lambda: critical + (1 - critical) * (recipe.alignment if not varying else rng.uniform(0, 1, depth)),
        "near one": lambda: np.ones(depth),
        "critical": lambda: np.full(depth, critical),
        "zero": lambda: np.zeros(depth),
        "one": lambda: np.ones(depth),
        "corners": lambda: rng.choice([0.0, recipe.alignment, 1.0], depth),
    }[mode]()
    alignment = np.clip(np.broadcast_to(alignment, (depth,)), 0.0, 1.0)
    across = np.sqrt((1 - alignment) * (1 + alignment))
    if mode == "near one":
        across = 10.0 ** rng.uniform(-12, 0, depth)
        alignment = np.sqrt((1 - across) * (1 + across))
    return _sigma(recipe, gap, alignment, rng), gap, alignment, across


def _sigma(recipe: Recipe, gap: Array, alignment: Array, rng: np.random.Generator) -> Array:
    depth = recipe.depth
    if recipe.sigma_mode == "one":
        return np.ones(depth)
    if recipe.sigma_mode == "contracting":
        rates = np.asarray(theory.max_rate(alignment, float(np.max(gap))))
        return rng.uniform(0.5, 0.999) / np.maximum(rates, 0.5)
    sigma = rng.uniform(0.3, 2.5, depth)
    return sigma * (rng.random(depth) < 0.7) if recipe.sigma_mode == "zeros" else sigma


def _geometry(recipe: Recipe, d: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Frames Q_l, orthonormal bases of R^{d-1} whose first vector is n_l, and signs of the residual's rows."""
    depth = recipe.depth
    frames = _haar(rng, depth, d)
    turns = _haar(rng, depth, d - 1) if d > 1 else np.zeros((depth, 0, 0))
    signs = np.ones((depth, d))
    if recipe.family.startswith("twisted"):
        sense = {"fastest": 1.0, "slowest": -1.0}.get(recipe.family.removeprefix("twisted "), 0.0)
        senses = np.full(depth, sense) if sense else rng.choice([-1.0, 1.0], depth)
        turns = np.tile(np.eye(d - 1), (depth, 1, 1))
        turns[:, :, 0] *= senses[:, None]
        if not sense:
            signs[:, 1] = rng.choice([-1.0, 1.0], depth)
    return frames, turns, signs


def _profile(recipe: Recipe, d: int, gap: Array, rng: np.random.Generator) -> Array:
    """Singular values of the layers over sigma, shape (L, d); the first entry is set by the caller."""
    depth = recipe.depth
    profile = np.repeat(gap[:, None], d, axis=1)
    if d < 3 or recipe.family == "flat" or recipe.family == "make_chain":
        return profile
    if recipe.family == "low rank" or (recipe.family.startswith("twisted") and recipe.seed % 2):
        rank = 1 if recipe.family.startswith("twisted") else int(rng.integers(0, d - 1))
        profile[:, 1 + rank :] = 0.0
        if rank == 0:
            gap[:] = 0.0
    elif recipe.family != "varying by layer" or recipe.seed % 2:
        # Some of the values equal, some not; the first stays the gap.
        profile[:, 2:] *= np.where(rng.random((depth, d - 2)) < 0.3, 1.0, rng.random((depth, d - 2)))
    return profile


def _injections(
    recipe: Recipe, d: int, frames: Array, looks: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array, Array]:
    """B_l, beta_l, b_l and u_l^T B_l e_1."""
    depth, m, mode = recipe.depth, recipe.context, recipe.injection_mode
    along, b = rng.uniform(0, 2, depth), rng.uniform(0, 1, depth) * (rng.random() < 0.8)
    if mode == "random":
        return _split(rng.standard_normal((depth, d, m)) * rng.uniform(0, 1, (depth, 1, 1)), frames[:, :, 0])
    keep = np.ones(depth)
    if mode == "none":
        keep[:] = 0.0
    elif mode == "sparse":
        keep = (rng.random(depth) < 0.4).astype(float)
    elif mode == "first":
        keep[1:] = 0.0
    along, b = along * keep, b * keep
    if d == 1:
        b = np.zeros(depth)
    injection = np.zeros((depth, d, m))
    coherent = along * (rng.choice([-1.0, 1.0], depth) if mode == "adversarial" else 1.0)
    if mode == "leaning" and m > 1:
        # Coherent on e_1 in part only: the rest of u_l^T B_l is along another direction of the context, of any sign.
        share = rng.uniform(rng.random(), 1, depth)
        coherent = along * share
        rest = along * np.sqrt((1 - share) * (1 + share)) * rng.choice([-1.0, 1.0], depth)
        injection[:, :, 1] = rest[:, None] * frames[:, :, 0]
    injection[:, :, 0] = coherent[:, None] * frames[:, :, 0]
    if mode == "adversarial" and d > 1:
        sign = rng.choice([-1.0, 1.0], depth)
        injection[:, :, 0] += (sign * b)[:, None] * np.einsum("lij,lj->li", frames[:, :, 1:], looks)
    elif d > 1:
        columns = min(m, d - 1)
        injection[:, :, :columns] += b[:, None, None] * frames[:, :, 1 : 1 + columns]
    return injection, along, b, coherent


def _split(injection: Array, u: Array) -> tuple[Array, Array, Array, Array]:
    """B_l with the norms of its parts along and across u_l, measured."""
    row = np.einsum("ld,ldm->lm", u, injection)
    rest = injection - u[:, :, None] * row[:, None, :]
    return injection, np.linalg.norm(row, axis=1), np.linalg.norm(rest, 2, axis=(1, 2)), row[:, 0]


def _generated(recipe: Recipe, d: int, numbers: tuple[Array, Array, Array, Array], rng: np.random.Generator) -> Example:
    """A chain of the package's own generator."""
    sigma, gap, alignment, across = numbers
    _, along, b, coherent = _injections(recipe, d, _haar(rng, recipe.depth, d), np.zeros((recipe.depth, d - 1)), rng)
    if d == 1:
        b = np.zeros(recipe.depth)
    if recipe.context == 1:
        along = np.abs(coherent)
    parameters = ChainParameters(sigma, gap, alignment, along, b, coherent, across)
    chain = theory.make_chain(parameters, d, rng, context_dimension=recipe.context)
    injected = np.asarray(chain.injections), along, b, coherent
    u, v = np.asarray(chain.u), np.asarray(chain.v)
    known = sigma, gap, alignment, across if recipe.alignment_mode == "near one" else None
    return _example(recipe, known, np.asarray(chain.propagators), u, v, injected, rng, 0.0, None)


def _of_package(recipe: Recipe, d: int, numbers: tuple[Array, Array, Array], rng: np.random.Generator) -> Example:
    """A chain of the package's constructors, by its own u and v."""
    kind = recipe.injection_mode, recipe.context
    chain = constructed(recipe.family, d, numbers, 3 * recipe.gap, kind, rng)
    u, v, layers = (np.asarray(x, dtype=np.float64) for x in (chain.u, chain.v, chain.propagators))
    sigma, gap, alignment = numbers
    across, angle = None, 0.0
    if recipe.family in ("residual_chain", "gaussian_chain", "orthogonal_chain"):
        values = np.linalg.svd(layers, compute_uv=False)
        sigma, angle = np.asarray(chain.sigma, dtype=np.float64), 16 * d * EPS
        gap = values[:, 1] / np.where(values[:, 0] > 0, values[:, 0], 1.0) if d > 1 else np.zeros(recipe.depth)
        overlap = np.concatenate([[1.0], np.einsum("ld,ld->l", v[1:], u[:-1])])
        off = np.concatenate([[0.0], np.linalg.norm(v[1:] - overlap[1:, None] * u[:-1], axis=1)])
        alignment, across = np.clip(overlap, 0.0, 1.0), np.clip(off, 0.0, 1.0)
    injected = _split(np.asarray(chain.injections, dtype=np.float64), u)
    return _example(recipe, (sigma, gap, alignment, across), layers, u, v, injected, rng, angle, None)


def _measured(recipe: Recipe, rng: np.random.Generator) -> Example:
    """Layers first, parameters by SVD."""
    depth, d = recipe.depth, recipe.dimension
    if recipe.family == "orthogonal":
        layers = _haar(rng, depth, d)
    elif recipe.family == "Gaussian":
        layers = rng.standard_normal((depth, d, d)) / np.sqrt(d)
    else:
        rank = int(rng.integers(1, d + 1))
        a, c = rng.standard_normal((2, depth, d, rank))
        update = a @ np.swapaxes(c, 1, 2) / (d * np.sqrt(rank))
        layers = np.eye(d) + 3 * recipe.gap * update - recipe.alignment * rng.choice([0.0, 0.5]) * np.eye(d)
    layers = _sigma(recipe, np.ones(depth), np.ones(depth), rng)[:, None, None] * layers
    left, s, right = np.linalg.svd(layers)
    u, v = left[:, :, 0].copy(), right[:, 0].copy()
    for layer in range(1, depth):
        if v[layer] @ u[layer - 1] < 0:
            u[layer], v[layer] = -u[layer], -v[layer]
    overlap = np.concatenate([[1.0], np.einsum("ld,ld->l", v[1:], u[:-1])])
    off = np.concatenate([[0.0], np.linalg.norm(v[1:] - overlap[1:, None] * u[:-1], axis=1)])
    sigma = s[:, 0]
    gap = s[:, 1] / np.where(sigma > 0, sigma, 1.0) if d > 1 else np.zeros(depth)
    if recipe.injection_mode in ("random", "none"):
        injected = _split(rng.standard_normal((depth, d, recipe.context)) * (recipe.injection_mode == "random"), u)
    else:
        looks = np.zeros((depth, d - 1))
        if d > 1:
            toward = v[1:] - overlap[1:, None] * u[:-1]
            size = np.linalg.norm(toward, axis=1, keepdims=True)
            toward = np.where(size > 0, toward / np.where(size > 0, size, 1.0), 0.0)
            looks[:-1] = np.einsum("ldk,ld->lk", left[:-1, :, 1:], toward)
            looks[-1, 0] = 1.0
        frames = np.concatenate([u[:, :, None], left[:, :, 1:]], axis=2)
        injected = _split(_injections(recipe, d, frames, looks, rng)[0], u)
    numbers = sigma, gap, np.clip(overlap, 0.0, 1.0), np.clip(off, 0.0, 1.0)
    return _example(recipe, numbers, layers, u, v, injected, rng, 16 * d * EPS, None)


def _example(
    recipe: Recipe,
    numbers: tuple[Array, Array, Array, Array | None],
    layers: Array,
    u: Array,
    v: Array,
    injected: tuple[Array, Array, Array, Array],
    rng: np.random.Generator,
    angle_error: float,
    isometries: Array | None,
) -> Example:
    """The chain at its scales: powers of two, so that nothing is rounded."""
    sigma, gap, alignment, across = numbers
    injection, along, b, coherent = injected
    e, f = _exponents(recipe, rng)
    rest = injection - u[:, :, None] * np.einsum("ld,ldm->lm", u, injection)[:, None, :]
    return Example(
        family=recipe.family,
        parameters=ChainParameters(
            sigma=np.ldexp(sigma, e),
            gap=gap,
            alignment=alignment,
            injection_along=np.ldexp(along, f),
            injection_across=np.ldexp(b, f),
            injection_coherent=np.ldexp(coherent, f),
            misalignment=across,
        ),
        layers=layers,
        injections=injection,
        u=u,
        v=v,
        layer_exponents=e,
        injection_exponents=f,
        across_frobenius=np.ldexp(np.linalg.norm(rest, axis=(1, 2)), f),
        angle_error=angle_error,
        isometries=isometries,
        note=repr(recipe),
    )


def _exponents(recipe: Recipe, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    depth, mode = recipe.depth, recipe.scale_mode
    zero = np.zeros(depth, dtype=np.int64)
    if mode in ("large", "small"):
        return zero + (SCALE if mode == "large" else -SCALE), zero
    layers = rng.integers(-SCALE, SCALE + 1, depth) if mode in ("layers", "all") else zero
    injections = rng.integers(-SCALE, SCALE + 1, depth) if mode in ("injections", "all") else zero
    return layers, injections
