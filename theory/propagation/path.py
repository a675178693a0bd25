"""The dominant path u_l v_1^T of a chain and what strays from it, each with full relative precision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from theory.chains.chain import Chain
from theory.chains.factored import Factored
from theory.propagation._host import flat_batch, host_chain, refuse_non_finite
from theory.propagation._powers import halved, log_of, plus
from theory.propagation.floored import Floored, at_least
from theory.propagation.scaled import leading_value

__all__ = ["DominantPath", "dominant_path"]


@dataclass(frozen=True, slots=True, eq=False)
class DominantPath:
    """A product P_{l:1} against its dominant path P*_l = (prod sigma)(prod kappa) u_l v_1^T, at every depth l.

    Attributes:
        log_path: ln ||P*_l||, shape (..., L); -inf from an alignment of 0 on.
        error: ln ||P_{l:1} - P*_l|| / ||P*_l|| (P1), shape (..., L); inf where the path is 0, and -inf where the
            product has no other part.
        across_over_along: ln q / p of x = P_{l:1} v_1, p = |<u_l, x>| and q the rest (T4), shape (..., L); NaN where
            x is 0.
    """

    log_path: NDArray[np.float64]
    error: Floored
    across_over_along: Floored


def dominant_path(chain: Chain) -> DominantPath:
    """The dominant path, the error of (P1) against it, and q / p of the image of v_1, at every depth.

    With c_l = <v_l, u_{l-1}> and pi_l = prod sigma prod c, write P_{l:1} = pi_l (u_l (v_1 + alpha_l)^T + N_l) with
    u_l^T N_l = 0. Then, as in the proof of (T12),

        alpha_l = alpha_{l-1} + N_{l-1}^T a_l / c_l,      a_l = v_l - c_l u_{l-1}
        N_l     = R_l (b_l (v_1 + alpha_{l-1})^T + N_{l-1}) / (sigma_l c_l),      b_l = u_{l-1} - c_l v_l

    and the relative error is ||u_l alpha_l^T + N_l||. Nothing is subtracted that is nearly equal, so an error of
    1e-3000 keeps its digits. What limits it: a_l and b_l, of length s_l, are known to an eps unless v_l and u_{l-1} are
    the same numbers, and R_l v_l = 0 = R_l^T u_l, taken as exact, hold to an eps unless they vanish to the last bit.
    What becomes of such an eps is the floor. Cost O(L d^3), float64.

    Args:
        chain: batched over any leading axes.

    Raises:
        ValueError: if an entry is not finite.
    """
    flat, batch = flat_batch(host_chain(chain, np.float64))
    source_eps = float(np.finfo(np.asarray(chain.sigma).dtype).eps)
    refuse_non_finite(flat)
    rows, depth = flat.sigma.shape
    error, floor = np.empty((rows, depth)), np.full((rows, depth), -np.inf)
    log_path, ratio, ratio_floor = np.empty((rows, depth)), np.empty((rows, depth)), np.full((rows, depth), -np.inf)
    state = _Stray(flat)
    image = _Image(flat)
    for layer in range(depth):
        if layer:
            turn = _Turn(flat, layer, source_eps)
            state.step(flat, layer, turn)
            image.step(flat, layer, turn)
        log_path[:, layer] = state.log_path
        error[:, layer], floor[:, layer] = state.error(flat, layer), state.log_floor()
        ratio[:, layer], ratio_floor[:, layer] = image.log_ratio(), image.log_floor()
    shape = (*batch, depth)
    # A path or a product of 0 has nothing to divide by, whatever the floor.
    found, turned = _floored(error, floor), _floored(ratio, ratio_floor)
    return DominantPath(
        log_path.reshape(shape),
        Floored(found.log_value.reshape(shape), found.resolved.reshape(shape)),
        Floored(turned.log_value.reshape(shape), turned.resolved.reshape(shape)),
    )


def _floored(value: NDArray[np.float64], floor: NDArray[np.float64]) -> Floored:
    found = at_least(value, floor)
    exact = np.isneginf(value) & np.isneginf(floor)
    return Floored(found.log_value, found.resolved | exact)


class _Turn:
    """Between u_{l-1} and v_l: their product c, the parts a and b across, and the size of what is not known of these.

    `doubt` is a random direction of that size: sent through the same layers it shows what comes of it.
    """

    __slots__ = ("a", "b", "c", "doubt", "unknown")

    def __init__(self, chain: Chain, layer: int, source_eps: float) -> None:
        u, v = chain.u[:, layer - 1], chain.v[:, layer]
        self.c = np.einsum("nd,nd->n", u, v)
        equal = (np.sign(self.c)[:, None] * u == v).all(axis=1)
        self.a = np.where(equal[:, None], 0.0, v - self.c[:, None] * u)
        self.b = np.where(equal[:, None], 0.0, u - self.c[:, None] * v)
        exact = equal & _exactly_annihilates(chain, layer)
        self.unknown = np.where(exact, 0.0, 2.0 * source_eps)
        direction = np.random.default_rng(layer).standard_normal(u.shape)
        length = np.linalg.norm(direction, axis=1)
        self.doubt = (self.unknown / np.where(length > 0, length, 1.0))[:, None] * direction


class _Doubt:
    """What an eps of every b_l becomes: the same recursion as that of the part across, from a random direction."""

    def __init__(self, chain: Chain) -> None:
        self.x, self.power = np.zeros(chain.u[:, 0].shape), np.zeros(chain.sigma.shape[0], dtype=np.int64)

    def step(
        self, chain: Chain, layer: int, turn: _Turn, along: NDArray[np.float64], along_power: NDArray[np.int64]
    ) -> None:
        """x <- R_l (doubt_l along + x) / sigma_l."""
        source, power = plus(turn.doubt * along[:, None], along_power, self.x, self.power)
        self.x, self.power = halved(_relative_residual(chain, layer, source[:, :, None])[:, :, 0], power)

    def log_norm(self) -> NDArray[np.float64]:
        return log_of(np.linalg.norm(self.x, axis=1), self.power)


class _Stray:
    """alpha and N of one depth, each with a power of two, and the floor of their norm."""

    def __init__(self, chain: Chain) -> None:
        n, d = chain.sigma.shape[0], chain.dimension
        self.alpha, self.alpha_power = np.zeros((n, d)), np.zeros(n, dtype=np.int64)
        with np.errstate(divide="ignore"):
            self.log_path = np.log(np.abs(chain.sigma[:, 0]))
        self.alpha_floor = np.full(n, -np.inf)
        self.doubt = _Doubt(chain)
        eye = np.broadcast_to(np.eye(d), (n, d, d))
        self.rest, self.rest_power = halved(_relative_residual(chain, 0, eye), np.zeros(n, dtype=np.int64))

    def step(self, chain: Chain, layer: int, turn: _Turn) -> None:
        inverse = np.where(turn.c != 0, 1 / np.where(turn.c != 0, turn.c, 1.0), 0.0)
        log_rest = log_of(np.sqrt(np.einsum("nij,nij->n", self.rest, self.rest)), self.rest_power)
        with np.errstate(divide="ignore", invalid="ignore"):
            self.log_path = self.log_path + np.log(np.abs(chain.sigma[:, layer])) + np.log(np.abs(turn.c))
            # What a_l is not known by can have gone into alpha, and stays there.
            self.alpha_floor = np.logaddexp(self.alpha_floor, log_rest + np.log(turn.unknown) + np.log(np.abs(inverse)))
        row, row_power = plus(self.alpha, self.alpha_power, chain.v[:, 0], 0)
        source, power = plus(turn.b[:, :, None] * row[:, None, :], row_power, self.rest, self.rest_power)
        moved = _relative_residual(chain, layer, source) * inverse[:, None, None]
        added = np.einsum("nij,ni->nj", self.rest, turn.a) * inverse[:, None]
        self.doubt.step(chain, layer, turn, np.linalg.norm(row, axis=1), row_power)
        self.doubt.x = self.doubt.x * inverse[:, None]
        self.alpha, self.alpha_power = halved(*plus(self.alpha, self.alpha_power, added, self.rest_power))
        self.rest, self.rest_power = halved(moved, power)

    def error(self, chain: Chain, layer: int) -> NDArray[np.float64]:
        along = chain.u[:, layer, :, None] * self.alpha[:, None, :]
        total, power = halved(*plus(along, self.alpha_power, self.rest, self.rest_power))
        return np.where(np.isneginf(self.log_path), np.inf, log_of(leading_value(total), power))

    def log_floor(self) -> NDArray[np.float64]:
        return np.logaddexp(self.alpha_floor, self.doubt.log_norm())


class _Image:
    """p and w of x = p u_l + w, the image of v_1, each with a power of two: defined where the path is 0, too."""

    def __init__(self, chain: Chain) -> None:
        n, d = chain.sigma.shape[0], chain.dimension
        self.along, self.along_power = np.where(chain.sigma[:, 0] != 0, 1.0, 0.0), np.zeros(n, dtype=np.int64)
        self.across, self.across_power = np.zeros((n, d)), np.zeros(n, dtype=np.int64)
        self.doubt = _Doubt(chain)

    def step(self, chain: Chain, layer: int, turn: _Turn) -> None:
        turned = np.einsum("nd,nd->n", self.across, turn.a)
        along, along_power = plus(turn.c * self.along, self.along_power, turned, self.across_power)
        source, power = plus(turn.b * self.along[:, None], self.along_power, self.across, self.across_power)
        rest = _relative_residual(chain, layer, source[:, :, None])[:, :, 0]
        self.doubt.step(chain, layer, turn, self.along, self.along_power)
        along = np.where(chain.sigma[:, layer] != 0, along, 0.0)  # sigma is divided out, and a zero layer has none
        self.along, self.along_power = halved(along, along_power)
        self.across, self.across_power = halved(rest, power)

    def log_ratio(self) -> NDArray[np.float64]:
        p, q = self._log_along(), log_of(np.linalg.norm(self.across, axis=1), self.across_power)
        with np.errstate(invalid="ignore"):
            return q - p

    def log_floor(self) -> NDArray[np.float64]:
        floor, along = self.doubt.log_norm(), self._log_along()
        return np.where(np.isneginf(along), -np.inf, floor - np.where(np.isneginf(along), 0.0, along))

    def _log_along(self) -> NDArray[np.float64]:
        return log_of(np.abs(self.along), self.along_power)


def _exactly_annihilates(chain: Chain, layer: int) -> NDArray[np.bool_]:
    """Whether R_l v_l and R_l^T u_l vanish to the last bit, as they do for layers written in coordinates."""
    u, v, residual = chain.u[:, layer, :, None], chain.v[:, layer, :, None], chain.residual
    if isinstance(residual, Factored):
        out, back = residual.apply(layer, v), residual.apply_transpose(layer, u)
    else:
        out, back = residual[:, layer] @ v, residual[:, layer].swapaxes(-1, -2) @ u
    return ~(out.any(axis=(1, 2)) | back.any(axis=(1, 2)))


def _relative_residual(chain: Chain, layer: int, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """R_l x / sigma_l with what rounding leaves along u_l taken out; 0 for a zero layer."""
    residual: Any = chain.residual
    y = residual.apply(layer, x) if isinstance(residual, Factored) else residual[:, layer] @ x
    u = chain.u[:, layer]
    y = y - u[:, :, None] * (u[:, None, :] @ y)
    sigma = chain.sigma[:, layer, None, None]
    return np.where(sigma != 0, y / np.where(sigma != 0, sigma, 1.0), 0.0)
