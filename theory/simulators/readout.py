"""From what a run of factored or dense chains leaves at a depth to singular values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.propagation.graded import GradedRows, orthogonalised
from theory.propagation.reduction import log_singular_values

__all__ = ["context_values", "low_rank_products", "pulled_back_products"]


def context_values(leaves: tuple[NDArray[np.float64], ...], share: bool) -> dict[str, NDArray[np.float64]]:
    """The fields of `ContextSpectra` that a run decides, each of the leaves' leading shape.

    Args:
        leaves: u^T J (..., m), a triangular root of the rest of J (..., m, m), ln of their scale (...); the part along
            u and the length across of the earliest injection's column, (...) each, and ln of their scale.
        share: whether the earliest injection was carried.
    """
    along, root, log_scale, first, rest, log_early_scale = leaves
    with np.errstate(divide="ignore", invalid="ignore"):
        s = np.linalg.svd(np.concatenate([along[..., None, :], root], axis=-2), compute_uv=False)
        across = np.linalg.svd(root, compute_uv=False)[..., 0]
        found = {
            "log_norm": np.log(s[..., 0]) + log_scale,
            "log_ratio": np.log(s[..., 1] / s[..., 0]) if s.shape[-1] > 1 else np.full(log_scale.shape, np.nan),
            "log_noise": np.log(across / np.linalg.norm(along, axis=-1)),
        }
        if share:
            whole = np.hypot(along[..., 0], np.linalg.norm(root[..., :, 0], axis=-1))
            found["log_early"] = np.log(np.hypot(first, rest)) + log_early_scale
            found["log_share"] = 2 * (found["log_early"] - np.log(whole) - log_scale)
            found["log_early_noise"] = np.log(rest / np.abs(first))
    return found


def pulled_back_products(
    w: NDArray[np.float64], gap: NDArray[np.float64], depths: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln ||P_l|| and ln sigma_2 / sigma_1 of flat chains at sigma = 1 from their directions, by (T24), pathwise.

    A QR takes the directions to the coordinates of their span: O(d L^2) a chain, then O(L^3) at each depth.

    Args:
        w: unit vectors w_1 .. w_L, shape (n, L, d).
        gap: xi, shape (n,).
        depths: l, each at most L.

    Returns:
        Shape (depths, n); the ratio is -inf where sigma_2 is 0, and NaN where the product is 0.
    """
    n, _, d = w.shape
    norm, ratio = np.empty((2, len(depths), n))
    root: Any = np.linalg.qr(np.swapaxes(w, 1, 2), mode="r")  # (n, min(d, L), L), column l the coordinates of w_l
    for row, depth in enumerate(depths):
        width = min(d, depth + 1)
        seen = np.zeros((n, depth, width))
        kept = min(depth, d)
        seen[..., :kept] = np.swapaxes(root[:, :kept, :depth], 1, 2)
        layers = (n, depth)
        first, second = log_singular_values(seen, np.broadcast_to(gap[:, None], layers), np.ones(layers))
        norm[row] = first
        with np.errstate(invalid="ignore"):  # NaN where the whole product is 0
            ratio[row] = second - first
    return norm, ratio


def low_rank_products(
    overlaps: NDArray[np.float64], gap: NDArray[np.float64], depths: tuple[int, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ln ||P_l|| and ln sigma_2 / sigma_1 of low-rank chains at sigma = 1, pathwise, with nothing of size d.

    P = W_l^T D (W_l W_{l-1}^T) D ... D W_1, W of orthonormal rows, so that its values are those of the product of cores
    of size 1 + r between, which a QR along the depth gives with a scale for every row.

    Args:
        overlaps: W_l W_{l-1}^T, shape (n, L, 1 + r, 1 + r); the first is not read.
        gap: xi, shape (n,).
        depths: l, each at most L.

    Returns:
        Shape (depths, n); the ratio is -inf where sigma_2 is 0.
    """
    n, _, size, _ = overlaps.shape
    norm, ratio = np.empty((2, len(depths), n))
    weights = np.repeat(gap[:, None], size, axis=1)
    weights[:, 0] = 1
    frame: Any = np.broadcast_to(np.eye(size), (n, size, size))
    graded = GradedRows(n, size)
    for layer in range(max(depths)):
        core = frame if layer == 0 else overlaps[:, layer] @ frame
        frame, triangle = np.linalg.qr(weights[:, :, None] * core)
        graded.multiply(triangle)
        if layer + 1 in depths:
            values = orthogonalised(graded)[0]
            row = depths.index(layer + 1)
            norm[row] = values[:, 0]
            with np.errstate(invalid="ignore"):
                ratio[row] = values[:, 1] - values[:, 0]
    return norm, ratio
