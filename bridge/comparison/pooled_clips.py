"""Proxies of every clip alone (K = 10), clean against stressed, and the tests over clips.

Pooling gives one number a condition; these give one a clip, so that a signed-rank test and an effect size can be
stated. Rank is bounded by the tokens of a clip far more than by those of a pool: "matched" cuts both transcripts of a
pair to the shorter before the spectrum is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bridge.comparison import statistics
from bridge.comparison.conditions import CLEAN, in_order, judged
from bridge.comparison.pooled_plan import LENGTHS, TOGETHER, Plan
from bridge.comparison.pooled_spectra import batch_proxies, changes
from bridge.comparison.vectors import Group, Rows
from observables import covariance_eigenvalues
from observables.decompositions import eigenvalues

CLIP_MODES = 10
"""K of one clip: a transcript of 20 tokens has 19 eigenvalues."""

CHANGES = ("n_eff_pct", "log10_kf", "alpha")


class ClipSpectra:
    """Leading eigenvalues of every pair of one group, cut and uncut.

    Args:
        group: model, component, layer.
        plan: what is paired.
    """

    def __init__(self, group: Group, plan: Plan) -> None:
        self._group, self._plan = group, plan
        self._keys: list[tuple[str, str, bool, str, int, int]] = []
        self._spectra: dict[str, list[Rows]] = {"clean": [], "stressed": []}

    def add(self, clip: str, conditions: Mapping[str, Rows]) -> None:
        """Takes a clip's X under every condition."""
        partners = self._plan.partners.get(clip, ())
        known: dict[tuple[str, int], Rows] = {}

        def top(condition: str, tokens: int) -> Rows:
            if (condition, tokens) not in known:
                known[condition, tokens] = _leading(conditions[condition][:tokens])
            return known[condition, tokens]

        for stress in partners:
            whole = len(conditions[CLEAN]), len(conditions[stress])
            failed = (clip, stress) in self._plan.failed
            for length in LENGTHS:
                clean, stressed = (min(whole), min(whole)) if length == "matched" else whole
                self._keys.append((clip, stress, failed, length, clean, stressed))
                self._spectra["clean"].append(top(CLEAN, clean))
                self._spectra["stressed"].append(top(stress, stressed))

    def result(self) -> pd.DataFrame:
        """One row a pair x length: proxies of both, changes, failed, tokens."""
        if not self._keys:
            return pd.DataFrame()
        names = ("clip", "stress", "failed", "length", "n_tokens_clean", "n_tokens_stressed")
        table = pd.DataFrame(dict(zip(names, zip(*self._keys, strict=True), strict=True)))
        sides = {role: batch_proxies(np.stack(found), CLIP_MODES) for role, found in self._spectra.items()}
        for role, values in sides.items():
            for name, column in values.items():
                table[f"{role}_{name}"] = column
        for name, column in changes(sides["clean"], sides["stressed"]).items():
            table[f"d_{name}"] = column
        for place, name in enumerate(("model", "component", "layer")):
            table.insert(place, name, self._group[place])
        return table


def _leading(rows: Rows) -> Rows:
    """The first CLIP_MODES eigenvalues (O1), zeros where there are fewer.

    From the products of rows with rows, of which a clip has few: a fifth of the time of its singular values. What is
    then lost below 1e-14 of the first eigenvalue is the rounding of float32 activations.
    """
    found = np.zeros(CLIP_MODES)
    n, d = rows.shape
    if n > d:
        found[: min(d, CLIP_MODES)] = covariance_eigenvalues(rows)[:CLIP_MODES]
    elif n >= 2:
        centred = rows - rows.mean(axis=0)
        values = eigenvalues("a clip's products", centred @ centred.T)[: -CLIP_MODES - 1 : -1] / (n - 1)
        values[n - 1 :] = 0.0
        values[values <= d * np.finfo(np.float64).eps * max(values[0], 0.0)] = 0.0
        found[: values.size] = values
    return found


def clip_tests(pairs: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Change of each proxy over clips, paired.

    A clip's change is the mean over layers, and over stresses for "together": the clip is the unit. Pairs with fewer
    than ten positive eigenvalues on either side (eleven tokens) have no value and are counted apart.

    Args:
        pairs: `Pooled.pairs`.
        seed: of the bootstrap.

    Returns:
        One row a model x component x layer (<NA>: mean over layers) x stress x kept x length x proxy: n clips,
        without (pairs that have no value, in any layer), clean mean, change, low, high, d_z, p, q, code. Single layers
        are tested on all pairs at matched lengths alone. q is Benjamini-Hochberg over all rows of layer means, and
        apart from them over all rows of single layers.
    """
    if pairs.empty:
        return pd.DataFrame()
    records = []
    keys = ["model", "component", "length"]
    for key, rows in pairs.groupby(keys, sort=True):
        named = dict(zip(keys, key, strict=True))
        found = _Aligned(rows)
        conditions = in_order(found.stress)
        meant = np.isin(found.stress, judged(conditions))
        chosen = {one: found.stress == one for one in conditions} | {TOGETHER: meant}
        for kept in ("all", "failed"):
            for stress, mine in chosen.items():
                members = mine & found.failed if kept == "failed" else mine
                if not members.any():
                    continue
                base = named | {"stress": stress, "kept": kept}
                records += found.tested(base | {"layer": pd.NA}, members, None, seed)
                if named["length"] == "matched" and kept == "all":
                    for column, layer in enumerate(found.layers):
                        records += found.tested(base | {"layer": layer}, members, column, seed)
    table = pd.DataFrame.from_records(records).astype({"layer": "Int64"})
    table["q"] = np.nan
    for single in (False, True):
        family = table["layer"].notna() == single
        table.loc[family, "q"] = statistics.benjamini_hochberg(table.loc[family, "p"])
    return table


class _Aligned:
    """The pairs of one model, component and length: arrays (pairs, layers)."""

    def __init__(self, rows: pd.DataFrame) -> None:
        wide = rows.set_index(["clip", "stress", "layer"]).unstack("layer")
        self.layers = sorted(set(rows["layer"]))
        self.clips, self.codes = np.unique(wide.index.get_level_values("clip").astype(str), return_inverse=True)
        self.stress = wide.index.get_level_values("stress").to_numpy(dtype=object)
        self.failed = wide["failed"].fillna(False).to_numpy(dtype=bool).any(axis=1)
        self._values = {
            name: wide[name][self.layers].to_numpy(dtype=np.float64)
            for change in CHANGES
            for name in (f"d_{change}", f"clean_{change.removesuffix('_pct')}")
        }

    def tested(
        self, key: dict[str, Any], members: NDArray[np.bool_], column: int | None, seed: int
    ) -> list[dict[str, Any]]:
        """One row a proxy, over the clips of these pairs; `column`: one layer, None the mean over layers."""
        layers = slice(None) if column is None else slice(column, column + 1)
        complete = members & np.isfinite(self._values["d_n_eff_pct"][:, layers]).all(axis=1)
        codes = self.codes[complete]
        counts = np.bincount(codes, minlength=len(self.clips))
        present = counts > 0
        names = list(self.clips[present])
        records = []
        for change in CHANGES:
            by_clip = {}
            for name in (f"d_{change}", f"clean_{change.removesuffix('_pct')}"):
                sums = np.bincount(codes, self._values[name][complete, layers].mean(axis=1), minlength=len(counts))
                by_clip[name] = sums[present] / counts[present]
            moved, clean = by_clip.values()
            found = statistics.bootstrap_mean(moved, names, seed=seed)
            records.append(
                key
                | {"proxy": change, "n": found.n, "without": int((members & ~complete).sum())}
                | {"clean": float(clean.mean()) if len(clean) else float("nan")}
                | {"change": found.effect, "low": found.low, "high": found.high}
                | {"d_z": statistics.standardised_mean(moved), "p": statistics.wilcoxon(moved), "code": found.code}
            )
        return records
