"""Pooled observables: covariances over all clips of a condition, their proxies, and how much a stress changes them.

One clip of 20 tokens has 19 eigenvalues; the paper's proxies want 50. So activations are pooled over clips as mergeable
sums (O1), and chance is carried by the clips: each resample draws clips with replacement, re-pools the variances along
the pooled directions, and reads the proxies again. A stressed transcript may be shorter or longer than the clean one,
and rank is bounded by the number of tokens: every change is given with both conditions cut to the shorter, clip by clip
("matched"), and uncut ("none").

A group (component x layer of a model) is walked through twice, clip by clip: once for the covariances, once for the
variances along their directions. Cost: about 2 n d (d + 2 LEADING) operations a row set and length, n the pooled
tokens, plus one decomposition of d^3 a side; memory: d^2 numbers an atom and a side (`pooled_plan`), whatever the
number of clips.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bridge.comparison.conditions import judged
from bridge.comparison.pooled_clips import ClipSpectra, clip_tests
from bridge.comparison.pooled_plan import LENGTHS, TOGETHER, Contrast, Plan, Side, failed_pairs, plan
from bridge.comparison.pooled_spectra import (
    MODES,
    PROXIES,
    batch_proxies,
    changes,
    interval,
    proxies,
    tail_log,
    tail_ratio_with_ends,
    tells,
)
from bridge.comparison.pooled_sums import ResampledSpectrum, Resamples, RunningSums, merged
from bridge.comparison.statistics import MIN_CLUSTERS
from bridge.comparison.vectors import Group, TableVectors, VectorSource

ALL_STRESSES = "all"
RESAMPLES = 500

Progress = Callable[[int, int], None]
"""Told how many groups are done, of how many."""


@dataclass(frozen=True, slots=True)
class Pooled:
    """What pooling gives.

    Everywhere `kept` is "all", or "failed" for the pairs whose stressed transcript has WER > 0.5 though its audio was
    not cut (the paper's filter); `stress` is a condition, or "together" for one stressed sample a clip, of any
    condition that leaves speech, pooled as one condition against their clean ones (`pooled_plan`).

    Attributes:
        layers: one row a model x component x layer x stress x kept x length x k: proxies clean and stressed, their
            changes with intervals (none of few clips, and of K_f, alpha and tail of fewer than K needs:
            `pooled_spectra.tells`), numbers of clips and tokens, reason. `d_tail_log` is the mean of
            ln lambda_i(stressed) / lambda_i(clean) over the modes the slope is fitted on.
        summary: the same changes averaged over layers, one row a model x component x stress x kept x length x k;
            stress "all" averages over stresses too, over those that `conditions.judged` names.
        tails: eigenvalue ratios (O6) with intervals, one row a model x component x layer x stress x kept (matched,
            K = 50).
        clouds: bootstrap draws of (n_eff, alpha) of the last layer, one row a model x component x condition (K = 50,
            uncut), "together" among them.
        pairs: proxies of every pair alone (K = 10), one row a model x component x layer x clip x stress x length.
        tests: their changes over clips, with interval, Wilcoxon's p, q and d_z (`pooled_clips.clip_tests`).
    """

    layers: pd.DataFrame
    summary: pd.DataFrame
    tails: pd.DataFrame
    clouds: pd.DataFrame = field(default_factory=pd.DataFrame)
    pairs: pd.DataFrame = field(default_factory=pd.DataFrame)
    tests: pd.DataFrame = field(default_factory=pd.DataFrame)


def pool(
    vectors: VectorSource | pd.DataFrame | None,
    clips: pd.DataFrame | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    progress: Progress | None = None,
) -> Pooled:
    """Pooled observables of every model, component, layer and stress that has vectors.

    Args:
        vectors: where the activations are read from, or a table with a column x; None gives empty tables.
        clips: the clips records, which say what failed; None: only all pairs are pooled.
        seed: seed of the resampling; the same clips are drawn for every layer, component and stress of a model.
        resamples: number of resamples.
        progress: told after each group.

    Raises:
        ValueError: if vectors cannot be read or are not finite.
    """
    if vectors is None:
        return Pooled(pd.DataFrame(), pd.DataFrame(), pd.DataFrame())
    source = TableVectors(vectors) if isinstance(vectors, pd.DataFrame) else vectors
    groups = source.groups()
    found = _Found(seed)
    with threadpool_limits(limits=1):  # many small decompositions: threads cost more than they bring, and change bits
        model, pooling = None, None
        for done, group in enumerate(groups, start=1):
            if pooling is None or group[0] != model:
                model = group[0]
                lengths = source.lengths(model)
                planned = plan(lengths, failed_pairs(clips, model), seed=seed)
                last = max(layer for name, _, layer in groups if name == model)
                pooling = _Pooling(found, planned, Resamples(planned.everyone, resamples, seed), last)
            pooling.take(source, group)
            if progress is not None:
                progress(done, len(groups))
    return found.result()


@dataclass(slots=True)
class _Spectrum:
    """A pooled covariance as its proxies see it; `drawn` is None where it has one clip."""

    n: int
    eigenvalues: NDArray[np.float64]
    drawn: NDArray[np.float64] | None
    cache: dict[int, tuple[dict[str, Any], dict[str, NDArray[np.float64]] | None]] = field(default_factory=dict)

    def proxies(self, k: int) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]] | None]:
        """Of the spectrum and of its draws."""
        if k not in self.cache:
            drawn = None if self.drawn is None else batch_proxies(self.drawn, k, width=self.eigenvalues.size)
            self.cache[k] = proxies(self.eigenvalues, k), drawn
        return self.cache[k]


class _Pooling:
    """Pools the groups of one model."""

    def __init__(self, found: _Found, planned: Plan, resamples: Resamples, last: int) -> None:
        self.found, self.plan, self.resamples, self.last = found, planned, resamples, last

    def take(self, source: VectorSource, group: Group) -> None:
        """Adds what one group gives to what was found."""
        key: dict[str, Any] = {"model": group[0], "component": group[1], "layer": group[2]}
        final = group[2] == self.last
        wanted = {number for one in self.plan.contrasts for ends in one.sides.values() for number in ends}
        if final:
            wanted |= set(self.plan.clouds.values())
        spectra = self._spectra(source, group, wanted)
        for contrast in self.plan.contrasts:
            for length, (clean, stressed) in contrast.sides.items():
                self.found.change(key, contrast, length, spectra[clean], spectra[stressed])
        if final:
            for condition, number in self.plan.clouds.items():
                self.found.cloud(key | {"condition": condition}, self.plan.sides[number], spectra[number])

    def _spectra(self, source: VectorSource, group: Group, wanted: set[int]) -> dict[int, _Spectrum]:
        belongs = {
            atom: sides
            for atom, numbers in self.plan.atoms().items()
            if (sides := [number for number in numbers if number in wanted])
        }
        sums = {atom: RunningSums() for atom in belongs}
        alone = ClipSpectra(group, self.plan)
        for clip, conditions in source.clips(group):
            alone.add(clip, conditions)
            for atom, rows in self.plan.blocks(clip, conditions, belongs):
                sums[atom].add(rows)
        self.found.pairs.append(alone.result())
        spectra, drawn = {}, {}
        for number in sorted(wanted):
            side = self.plan.sides[number]
            total = merged([sums[atom].result() for atom in side.atoms])
            if total is None or total.n < 2:
                spectra[number] = _Spectrum(0 if total is None else total.n, np.empty(0), None)
                continue
            spectra[number] = _Spectrum(total.n, total.eigenvalues(), None)
            if len(side.clips) > 1 and self.resamples.count:
                drawn[number] = ResampledSpectrum(total, self.resamples)
        del sums
        for clip, conditions in source.clips(group) if drawn else ():
            for atom, rows in self.plan.blocks(clip, conditions, belongs):
                for number in belongs[atom]:
                    if number in drawn:
                        drawn[number].add(clip, rows)
        for number, one in drawn.items():
            spectra[number].drawn = one.eigenvalues(max(MODES))
        return spectra


class _Found:
    """Collects rows and the draws they share, so that averages over layers resample the same clips."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.layers: list[dict[str, Any]] = []
        self.tails: list[dict[str, Any]] = []
        self.clouds: list[dict[str, Any]] = []
        self.pairs: list[pd.DataFrame] = []
        self.draws: dict[tuple[Any, ...], dict[str, tuple[float, NDArray[np.float64]]]] = {}

    def cloud(self, key: dict[str, Any], side: Side, found: _Spectrum) -> None:
        """One condition of the last layer."""
        if found.n < 2:
            return
        point, drawn = found.proxies(50)
        self.clouds.append(
            key
            | {"n_clips": len(side.clips), "n_tokens": found.n, "n_eff": point["n_eff"], "alpha": point["alpha"]}
            | {"is_power_law": point["is_power_law"], "reason": point["reason"]}
            | {f"{name}_draws": [] if drawn is None else drawn[name].tolist() for name in ("n_eff", "alpha")}
        )

    def change(
        self, key: dict[str, Any], contrast: Contrast, length: str, clean: _Spectrum, stressed: _Spectrum
    ) -> None:
        """One contrast at one length."""
        if min(clean.n, stressed.n) < 2:
            return
        key = key | {"stress": contrast.stress, "kept": contrast.kept, "length": length}
        counts = {
            "n_clips": len(contrast.pairs),
            "n_tokens_clean": clean.n,
            "n_tokens_stressed": stressed.n,
        }
        for k in MODES:
            self._proxies(key | {"k": k}, counts, clean, stressed, k)
        if length == "matched":
            both = None
            enough = tells("tail_log", max(MODES), min(clean.n, stressed.n), len(contrast.pairs))
            if clean.drawn is not None and stressed.drawn is not None and enough:
                both = clean.drawn, stressed.drawn
            tail = tail_ratio_with_ends((clean.eigenvalues, stressed.eigenvalues), both, max(MODES))
            if tail is not None:
                self.tails.append(key | counts | dict(zip(("ratio", "low", "high"), tail, strict=True)))

    def _proxies(
        self, key: dict[str, Any], counts: dict[str, int], clean: _Spectrum, stressed: _Spectrum, k: int
    ) -> None:
        (before, drawn_before), (after, drawn_after) = clean.proxies(k), stressed.proxies(k)
        change = changes(before, after)
        record = key | counts | {f"clean_{name}": value for name, value in before.items()}
        record |= {f"stressed_{name}": value for name, value in after.items()}
        bad = [one["reason"] for one in (before, after) if one["reason"] != "ok"]
        record["reason"] = bad[0] if bad else "ok"
        change["tail_log"] = float(tail_log(clean.eigenvalues[None], stressed.eigenvalues[None], k)[0])
        moved: dict[str, Any] = {name: np.empty(0) for name in PROXIES}
        if drawn_before is not None and drawn_after is not None:
            moved = changes(drawn_before, drawn_after)
            width = clean.eigenvalues.size
            moved["tail_log"] = tail_log(clean.drawn, stressed.drawn, k, width=width)  # type: ignore[arg-type]
        for name in PROXIES:
            record[f"d_{name}"] = float(change[name])
            enough = counts["n_clips"] >= MIN_CLUSTERS and tells(name, k, min(clean.n, stressed.n), counts["n_clips"])
            low, high = interval(float(change[name]), moved[name] if enough else np.empty(0))
            record[f"d_{name}_low"], record[f"d_{name}_high"] = low, high
        record["resamples"] = len(moved["alpha"])
        self.layers.append(record)
        self.draws[tuple(key.values())] = {name: (float(change[name]), moved[name]) for name in PROXIES}

    def result(self) -> Pooled:
        """The tables."""
        layers = pd.DataFrame.from_records(self.layers)
        pairs = pd.concat(self.pairs, ignore_index=True) if self.pairs else pd.DataFrame()
        return Pooled(
            layers,
            self._summary(),
            pd.DataFrame.from_records(self.tails),
            pd.DataFrame.from_records(self.clouds),
            pairs,
            clip_tests(pairs, seed=self.seed),
        )

    def _summary(self) -> pd.DataFrame:
        groups: dict[tuple[Any, ...], dict[str, list[dict[str, Any]]]] = {}
        for row in self.layers:
            key = tuple(row[name] for name in ("model", "component", "length", "k", "kept"))
            groups.setdefault(key, {}).setdefault(row["stress"], []).append(row)
        records = []
        meant = judged(row["stress"] for row in self.layers if row["stress"] != TOGETHER)
        for key, by_stress in sorted(groups.items()):
            named = dict(zip(("model", "component", "length", "k", "kept"), key, strict=True))
            averaged = [row for stress in meant for row in by_stress.get(stress, ())]
            for stress, rows in (*by_stress.items(), (ALL_STRESSES, averaged)):
                if rows:
                    records.append(named | {"stress": stress} | self._averaged(rows))
        return pd.DataFrame.from_records(records)

    def _averaged(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        record: dict[str, Any] = {
            "n_clips": min(row["n_clips"] for row in rows),
            "n_layers": len({row["layer"] for row in rows}),
            "n_tokens_clean": min(row["n_tokens_clean"] for row in rows),
            "n_tokens_stressed": min(row["n_tokens_stressed"] for row in rows),
            "reason": next((row["reason"] for row in rows if row["reason"] != "ok"), "ok"),
            "power_law_clean": sum(row["clean_is_power_law"] for row in rows),
            "rows": len(rows),
        }
        for name in ("clean_n_eff", "clean_log10_kf", "clean_alpha"):
            record[name] = float(np.mean([row[name] for row in rows]))
        names = ("model", "component", "layer", "stress", "kept", "length", "k")
        parts = [self.draws[tuple(row[name] for name in names)] for row in rows]
        for name in PROXIES:
            effect = float(np.mean([part[name][0] for part in parts]))
            sizes = {len(part[name][1]) for part in parts}
            draws = np.empty(0)
            tokens = min(record["n_tokens_clean"], record["n_tokens_stressed"])
            enough = record["n_clips"] >= MIN_CLUSTERS and tells(name, rows[0]["k"], tokens, record["n_clips"])
            if len(sizes) == 1 and enough:
                draws = np.mean([part[name][1] for part in parts], axis=0)
            record[f"d_{name}"] = effect
            record[f"d_{name}_low"], record[f"d_{name}_high"] = interval(effect, draws)
        return record


__all__ = ["ALL_STRESSES", "LENGTHS", "MODES", "PROXIES", "RESAMPLES", "TOGETHER", "Pooled", "pool"]
