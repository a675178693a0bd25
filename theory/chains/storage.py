"""Chains in files: NumPy's .npz, without pickle, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path

import jax
import jax.core
import numpy as np

from theory.chains.chain import Chain
from theory.chains.factored import Factored

__all__ = ["load_chain", "save_chain"]

FORMAT = 1
"""Version of the layout below; a file of another is refused."""

DENSE = ("sigma", "u", "v", "residual", "injection")
FACTORED = ("sigma", "u", "v", "shift", "left", "right", "injection")


def save_chain(chain: Chain, path: str | os.PathLike[str]) -> Path:
    """Write a chain, batched or not, with its bits as they are.

    The file is written beside its target and moved over it, so that a reader never sees half of one.

    Args:
        chain: to be saved, outside any trace.
        path: of the file, taken as it is; its folder must exist.

    Returns:
        The path.

    Raises:
        ValueError: if the chain is being traced.
        OSError: if the file cannot be written.
    """
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(chain)):
        raise ValueError("chain must hold numbers to be saved; got a tracer")
    residual = chain.residual
    if isinstance(residual, Factored):
        arrays = {"shift": residual.shift, "left": residual.left, "right": residual.right}
    else:
        arrays = {"residual": residual}
    arrays |= {
        "format": np.int64(FORMAT),
        "sigma": chain.sigma,
        "u": chain.u,
        "v": chain.v,
        "injection": chain.injection,
    }
    target = Path(path)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return target


def load_chain(path: str | os.PathLike[str]) -> Chain:
    """Read a chain that `save_chain` wrote.

    Args:
        path: of the file.

    Returns:
        The chain, NumPy, bit for bit.

    Raises:
        ValueError: if the file holds anything else: no archive, other names, another format, shapes that disagree, a
            dtype other than float32 and float64, or a non-finite number.
        OSError: if the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except (zipfile.BadZipFile, EOFError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(
            f"path must be a chain's file; got {os.fspath(path)!r}, which is not readable: {error}"
        ) from error
    version = arrays.pop("format", None)
    names = sorted(arrays)
    if version is None or names not in (sorted(DENSE), sorted(FACTORED)):
        raise ValueError(f"path must be a chain's file; got {os.fspath(path)!r} with arrays {names}")
    if version.shape != () or int(version) != FORMAT:
        raise ValueError(f"path must be a chain's file of format {FORMAT}; got format {version!r}")
    for name in FACTORED if "left" in arrays else DENSE:
        array = arrays[name]
        if array.dtype not in (np.float64, np.float32) or array.dtype != arrays["sigma"].dtype:
            raise ValueError(f"{name} must be float64 or float32, as all of the chain is; got {array.dtype}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite; got a non-finite entry in {os.fspath(path)!r}")
    if "residual" in arrays:
        residual = arrays["residual"]
    else:
        residual = Factored(arrays["shift"], arrays["left"], arrays["right"])
    return Chain(arrays["sigma"], arrays["u"], arrays["v"], residual, arrays["injection"])
