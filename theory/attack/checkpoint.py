"""A search on disk: its whole state as an .npz without pickle, written atomically."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from theory.attack.spec import AttackSpec

__all__ = ["OtherAttackError", "read_checkpoint", "write_checkpoint"]


class OtherAttackError(ValueError):
    """A checkpoint is of another search, or is no checkpoint."""


def write_checkpoint(path: Path, spec: AttackSpec, leaves: list[Any], steps_done: int, history: list[float]) -> None:
    """Writes the state of a search; what was there stays whole until the new one is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".partial-{os.getpid()}-{path.name}")
    arrays: dict[str, Any] = {f"leaf_{index:03d}": np.asarray(leaf) for index, leaf in enumerate(leaves)}
    try:
        with temporary.open("wb") as file:
            np.savez(
                file,
                spec=np.array(json.dumps(spec.to_dict(), sort_keys=True)),
                steps_done=np.array(steps_done),
                history=np.array(history, dtype=np.float64),
                **arrays,
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_checkpoint(path: Path, spec: AttackSpec) -> tuple[list[np.ndarray], int, list[float]]:
    """Leaves of the state, steps done and history of the search of this very spec.

    Raises:
        OtherAttackError: if the file is of another spec, or cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = json.loads(str(archive["spec"]))
            names = sorted(name for name in archive.files if name.startswith("leaf_"))
            leaves = [archive[name] for name in names]
            steps_done, history = int(archive["steps_done"]), archive["history"].tolist()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise OtherAttackError(f"{path} is no checkpoint of a search: {error}") from error
    wanted = spec.to_dict()
    if found != wanted:
        different = (
            next(name for name in wanted if found.get(name) != wanted[name]) if set(found) == set(wanted) else ""
        )
        said = f": {different} was {found[different]!r}, not {wanted[different]!r}" if different else ""
        raise OtherAttackError(f"{path} is of another search{said}")
    return leaves, steps_done, history
