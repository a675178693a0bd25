"""What every constructor asks of its arguments, and the memory it may take."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.core
import numpy as np
from numpy.typing import NDArray

from theory._checks import natural, unit_interval
from theory.chains.chain import Chain
from theory.chains.factored import Factored

__all__ = ["Request", "afford", "host", "layer_values", "misalignment", "one", "refuse_without_room", "row_chunks"]

CHUNK_BYTES = 16 * 2**20
"""Memory of one batch of dense float64 work; small enough to stay near the cache, large enough to hide the loop."""


def host(value: Any, name: str) -> Any:
    """The argument, unless it is a tracer: chains are drawn in NumPy, and a tracer has no values to check.

    Raises:
        ValueError: if it is one.
    """
    if isinstance(value, jax.core.Tracer):
        raise ValueError(
            f"{name} must be known before tracing, as chains are drawn on the host; got a tracer. "
            "Build the chain outside jit, vmap or grad and pass it in"
        )
    return value


def layer_values(value: Any, name: str, depth: int, *, least: float | None = 0.0) -> NDArray[np.float64]:
    """One finite number a layer, not below `least`, from a scalar or an array of shape (L,); float64, a fresh array.

    Raises:
        ValueError: naming the argument, the rule and what came.
    """
    array = _spread(value, name, depth)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got {float(array[~np.isfinite(array)][0])!r}")
    if least is not None and (array < least).any():
        rule = f"be at least {least}" if least else "not be negative"
        raise ValueError(f"{name} must {rule}; got {float(array[array < least][0])!r}")
    return array


def _spread(value: Any, name: str, depth: int) -> NDArray[np.float64]:
    host(value, name)
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a real number or one a layer; got {value!r}") from error
    if array.shape not in ((), (depth,)):
        raise ValueError(f"{name} must be a number or have the {depth} layers of the chain; got shape {array.shape}")
    return np.array(np.broadcast_to(array, (depth,)))


def available_bytes() -> int:
    """Memory that can be taken without swapping: what the kernel says, or all there is where it says nothing."""
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def afford(size: int, what: str) -> None:
    """Refuse what would not fit, before it kills the process.

    Raises:
        ValueError: stating the bytes, if `size` exceeds the memory that is free.
    """
    free = available_bytes()
    if size > free:
        raise ValueError(
            f"dimension, depth and batch must make chains that fit in memory; {what} takes {size} bytes and "
            f"{free} are available. A factored family (reflection, low rank, residual, twisted) takes O(d) a layer"
        )


def refuse_without_room(parameters: dict[str, NDArray[np.float64]], dimension: int) -> None:
    """In one dimension a layer is a number: no gap, no injection across, alignment 1.

    Raises:
        ValueError: if d = 1 and any is asked for.
    """
    if dimension > 1:
        return
    for name, values in parameters.items():
        wrong = values[1:] != 1.0 if name == "alignment" else values != 0.0
        if wrong.any():
            rest = values[1:] if name == "alignment" else values
            rule = "an alignment below 1" if name == "alignment" else f"any {name}"
            raise ValueError(
                f"dimension must be at least 2 for {rule}; got 1 with {name.replace('_', ' ')} "
                f"{float(rest[wrong][0])!r}"
            )


def row_chunks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Slices of the rows, `CHUNK_BYTES` of work each."""
    step = max(1, CHUNK_BYTES // max(1, row_bytes))
    for begin in range(0, rows, step):
        yield slice(begin, min(rows, begin + step))


@dataclass(frozen=True, slots=True)
class Request:
    """The shape and precision of the chains to make."""

    depth: int
    dimension: int
    batch: tuple[int, ...]
    dtype: np.dtype

    @classmethod
    def of(cls, depth: Any, dimension: Any, batch: Any, dtype: Any, *, least_dimension: int = 1) -> Request:
        """The request, checked.

        Raises:
            ValueError: naming the argument, the rule and what came.
        """
        if isinstance(batch, int | np.integer) or not all(np.ndim(host(n, "batch")) == 0 for n in batch):
            raise ValueError(f"batch must be a tuple of integers of at least 1; got {batch!r}")
        if str(dtype) not in ("float64", "float32") and dtype not in (np.float64, np.float32):
            raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
        request = cls(
            depth=one(depth, "depth"),
            dimension=one(dimension, "dimension", least_dimension),
            batch=tuple(one(n, "batch") for n in batch),
            dtype=np.dtype(dtype),
        )
        # Before any array over layers is made: u and v alone.
        request.afford(2 * request.dimension, f"directions of shape {(*request.layers, request.dimension)}")
        return request

    @property
    def layers(self) -> tuple[int, ...]:
        """Shape (*batch, L)."""
        return (*self.batch, self.depth)

    @property
    def rows(self) -> int:
        """Number of layers of all chains together."""
        return math.prod(self.layers)

    def afford(self, entries_per_layer: int, what: str) -> None:
        """Refuse a family whose chains would not fit, at this many numbers a layer.

        Raises:
            ValueError: stating the bytes.
        """
        # As much again for float64 work and the cast.
        afford(2 * self.rows * entries_per_layer * self.dtype.itemsize, what)

    def afford_dense(self) -> None:
        """Refuse dense chains that would not fit.

        Raises:
            ValueError: stating the bytes.
        """
        self.afford(self.dimension**2, f"a dense residual of shape {(*self.layers, self.dimension, self.dimension)}")

    def dense_rows(self) -> NDArray[Any]:
        """Zeros of shape (L * batch, d, d) in the chains' precision; `by_chain` gives them the chains' shape."""
        return np.zeros((self.rows, self.dimension, self.dimension), dtype=self.dtype)

    def by_chain(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Rows that run through the batch of the first layer, then of the second, seen as (*batch, L, ...)."""
        return np.moveaxis(rows.reshape(self.depth, *self.batch, *rows.shape[1:]), 0, len(self.batch))

    def by_row(self, leaf: NDArray[Any]) -> NDArray[Any]:
        """The rows of a leaf (*batch, L, ...): the inverse of `by_chain`, a copy only where memory lies otherwise."""
        moved = np.moveaxis(leaf, len(self.batch), 0)
        return moved.reshape(self.rows, *leaf.shape[len(self.batch) + 1 :])

    def layer_of(self, part: slice) -> NDArray[np.int64]:
        """0-based layer of each of these rows."""
        return np.arange(part.start, part.stop) // (self.rows // self.depth)

    def sigma(self, value: Any) -> NDArray[np.float64]:
        """sigma_l, shape (L,), refused where the precision cannot hold it.

        Raises:
            ValueError: naming the rule and what came.
        """
        sigma = layer_values(value, "sigma", self.depth)
        limits = np.finfo(self.dtype)
        wrong = (sigma > float(limits.max)) | ((sigma > 0) & (sigma < float(limits.tiny)))
        if wrong.any():
            raise ValueError(f"sigma must be 0 or a normal number of {self.dtype}; got {float(sigma[wrong][0])!r}")
        return sigma

    def fraction(self, value: Any, name: str, *, first_unread: bool = False) -> NDArray[np.float64]:
        """Numbers of [0, 1], shape (L,); an unread first entry of an array becomes NaN.

        Raises:
            ValueError: naming the argument, the rule and what came.
        """
        values = _spread(value, name, self.depth)
        if first_unread and np.ndim(value) > 0:
            values[0] = np.nan
            return unit_interval(values, name, first_unread=True)
        return unit_interval(values, name)

    def chain(
        self,
        sigma: NDArray[np.float64],
        u: NDArray[np.float64],
        v: NDArray[np.float64],
        residual: NDArray[Any] | Factored,
        injection: NDArray[Any] | None = None,
    ) -> Chain:
        """The chain in its precision; without an injection, zeros with context dimension 1.

        A batch lies in memory layer after layer: a pass through the layers reads it in one stream.

        Raises:
            ValueError: if a number leaves that precision.
        """
        if injection is None:
            injection = np.zeros((*self.layers, self.dimension, 1))
        at = len(self.batch)

        def settled(leaf: NDArray[Any]) -> NDArray[Any]:
            with np.errstate(over="ignore"):
                cast = np.ascontiguousarray(np.moveaxis(leaf, at, 0), dtype=self.dtype)
            if not np.isfinite(cast).all():
                raise ValueError(f"dtype must hold the chain's numbers; got one beyond {self.dtype}")
            return np.moveaxis(cast, 0, at)

        return jax.tree.map(settled, Chain(np.broadcast_to(sigma, self.layers), u, v, residual, injection))


def one(value: Any, name: str, least: int = 1) -> int:
    """One integer of at least `least`.

    Raises:
        ValueError: if it is not.
    """
    if np.ndim(host(value, name)) != 0:
        raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}")
    return int(natural(value, name, least=least))


def misalignment(alignment: NDArray[np.float64]) -> NDArray[np.float64]:
    """s = sqrt(1 - kappa^2), factored so that it keeps its digits near kappa = 1; NaN where kappa is."""
    return np.sqrt((1 - alignment) * (1 + alignment))
