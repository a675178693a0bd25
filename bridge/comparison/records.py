"""The records of a run directory, as report, ledger and figures read them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import xarray as xr

from bridge.comparison.conditions import ENCODER_STATES
from bridge.comparison.vectors import PartVectors, TableVectors, VectorSource
from bridge.running.files import read_provenance
from bridge.running.schema import LAYERS


@dataclass(frozen=True, slots=True)
class RunTables:
    """The records of one run directory.

    Attributes:
        directory: where they were read.
        settings: settings.json (empty where there is none).
        clips, activations: what was heard, and the proxies of each clip's activations.
        layers: the measured propagators and Jacobians; no rows in a run that only listened.
        nulls: rows of the null models, None if none were measured or shipped.
        sweep: the phase map of `theory.sweep`, None if it was not made.
        quarantine: samples that were not measured, one mapping each with a code.
        failures: tasks that failed.
        timings: timings.json.
        provenance: of the merged records (Parquet metadata) and the inputs.
        blocks, subspaces: the chain in blocks of m layers, and leading subspaces; None in runs that did not measure
            them.
        vectors: where the activations themselves are read from, None where nothing holds them.
        rescored: rescored.json: rules of the labels, their calibration, shares and agreement; empty without labels.
        detectors: how well each number tells the labelled transcripts from the others, None without labels.
    """

    directory: Path
    settings: dict[str, Any]
    clips: pd.DataFrame
    layers: pd.DataFrame
    activations: pd.DataFrame
    nulls: pd.DataFrame | None = None
    sweep: xr.Dataset | None = None
    quarantine: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    timings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    blocks: pd.DataFrame | None = None
    subspaces: pd.DataFrame | None = None
    vectors: VectorSource | None = None
    rescored: dict[str, Any] = field(default_factory=dict)
    detectors: pd.DataFrame | None = None

    @property
    def measured(self) -> bool:
        """Whether any Jacobian was measured: False of a run that only listened."""
        return not self.layers.empty

    @property
    def held_vectors(self) -> VectorSource | None:
        """Where the activations are read from: `vectors`, else a table of activations that holds them itself."""
        if self.vectors is None and "x" in self.activations:
            return TableVectors(self.activations)
        return self.vectors

    @property
    def decoder_layers(self) -> pd.DataFrame:
        """The layers of the decoder's states. The encoder's chain has one injection, at its first layer: no slope of
        arrivals over depth and so no regime of (O7) can be read of it."""
        return self.layers[~self.layers["state"].isin(ENCODER_STATES)]

    @property
    def seed(self) -> int:
        """Seed of the run, which its resampling shares."""
        config = self.settings.get("config", self.settings)
        return int(config.get("seed", 0))

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order of the records."""
        return [str(name) for name in dict.fromkeys([*self.layers["model"], *self.clips["model"]])]

    def dimensions(self, name: str) -> tuple[int | None, int | None]:
        """d_model and the decoder's layers, from what was measured, else from the settings; None where unknown."""
        own, activations = self.decoder_layers, self.activations
        mine = own[own["model"] == name]
        if not mine.empty:
            return int(mine["d_model"].iloc[0]), int(mine["layers"].iloc[0])
        rows = activations[activations["model"] == name] if "d_model" in activations else activations.iloc[:0]
        if not rows.empty:
            return int(rows["d_model"].iloc[0]), int(rows["layer"].max())
        settings = self.model_settings(name)
        found = (settings.get("d_model"), settings.get("decoder_layers"))
        return tuple(None if one is None else int(one) for one in found)  # type: ignore[return-value]

    def model_settings(self, name: str) -> dict[str, Any]:
        """What the settings say of a model; empty if nothing."""
        for entry in self.settings.get("models", []):
            if isinstance(entry, dict) and entry.get("name") == name:
                return entry
        return {}


def load_run(directory: str | Path) -> RunTables:
    """Reads the records of a run directory.

    Raises:
        FileNotFoundError: naming the record that is missing: clips and activations must be there.
    """
    root = Path(directory)
    records = root / "records"
    frames = {}
    for name in ("clips", "activations"):
        path = records / f"{name}.parquet"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {root} holds no finished run")
        frames[name] = pd.read_parquet(path)
    layers = _optional(records / "layers.parquet")
    settings = _json(root / "settings.json")
    activations, vectors = _vectors(frames["activations"], root / "parts", settings)
    return RunTables(
        directory=root,
        settings=settings,
        clips=frames["clips"].drop_duplicates(["model", "clip", "condition"], ignore_index=True),
        layers=_no_layers() if layers is None else layers,
        activations=activations,
        **{name: _optional(records / f"{name}.parquet") for name in ("blocks", "subspaces", "nulls", "detectors")},
        sweep=_sweep(records),
        quarantine=_lines(root / "quarantine.jsonl"),
        failures=_lines(root / "failures.jsonl"),
        timings=_json(root / "timings.json"),
        provenance=_provenance(root, records),
        vectors=vectors,
        rescored=_json(root / "rescored.json"),
    )


def _vectors(
    activations: pd.DataFrame, parts: Path, settings: dict[str, Any]
) -> tuple[pd.DataFrame, VectorSource | None]:
    """The activations' proxies, and where their vectors are: in the table itself in old runs, else in the parts."""
    if "x" in activations:
        return activations.drop(columns="x"), TableVectors(activations)
    found = PartVectors(parts, settings.get("digest"))
    return activations, found if found else None


def _no_layers() -> pd.DataFrame:
    """The layers of a run that measured none: its columns without rows."""
    return pa.schema(list(LAYERS.items())).empty_table().to_pandas()


def _optional(path: Path) -> pd.DataFrame | None:
    """A table that a run may lack; None too where it has no rows."""
    table = pd.read_parquet(path) if path.is_file() else None
    return table if table is not None and len(table) else None


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _sweep(records: Path) -> xr.Dataset | None:
    path = records / "sweep.nc"
    if not path.is_file():
        return None
    with xr.open_dataset(path, engine="scipy") as dataset:
        return dataset.load()


def _provenance(root: Path, records: Path) -> dict[str, Any]:
    found = read_provenance(records / "clips.parquet")
    for name in ("provenance.json", "inputs.json"):
        if (root / name).is_file():
            found |= {name.removesuffix(".json"): _json(root / name)}
    return found
