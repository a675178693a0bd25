"""A stress put on an utterance, or put on again as it was recorded."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from empirical.stress.errors import StressError
from empirical.stress.levels import level
from empirical.stress.records import PoolClip, Scene, Stressor, StressResult, check_recorded


def apply(
    stressor: Stressor,
    samples: np.ndarray,
    *,
    utterance: str,
    seed: int,
    pool: Sequence[PoolClip] = (),
    speaker: str | None = None,
    noises: Sequence[PoolClip] = (),
) -> StressResult:
    """Put one stress on one utterance.

    All chance comes from (utterance, stressor's name, seed), never from the order of calls, of the pool or the noises.

    Args:
        stressor: what to do.
        samples: (n,) float at 16 kHz, full scale -1..1.
        utterance: its id; with the seed it fixes everything random.
        seed: of the whole set.
        pool: for a mix or babble, utterances to take from; the target itself may be among them.
        speaker: who speaks in the target; by default as the pool says.
        noises: for noise from a folder, its recordings.

    Raises:
        StressError: "bad_samples", "silent", "too_long", "too_short", "pool_empty", "no_noises".
    """
    return _put(stressor, samples, Scene(utterance, seed, pool, speaker, noises))


def reapply(
    stressor: Stressor,
    parameters: Mapping[str, object],
    samples: np.ndarray,
    *,
    utterance: str,
    seed: int,
    pool: Sequence[PoolClip] = (),
    speaker: str | None = None,
    noises: Sequence[PoolClip] = (),
) -> StressResult:
    """Put on a stress again as an earlier result recorded it: the same bytes, whatever else the pool has now.

    Args:
        stressor: what was asked.
        parameters: `StressResult.parameters` of then, or what JSON made of it.
        samples: the same source.
        utterance: as then.
        seed: as then.
        pool: utterances, those named in the parameters among them.
        speaker: as then; decides notes alone.
        noises: recordings, that named in the parameters among them.

    Raises:
        StressError: as `apply`; "bad_parameter" if the parameters are not the stressor's; "pool_missing" if an
            utterance or recording they name is not at hand or cannot be read.
    """
    check_recorded(stressor, parameters)
    return _put(stressor, samples, Scene(utterance, seed, pool, speaker, noises, recorded=parameters))


def _put(stressor: Stressor, samples: np.ndarray, scene: Scene) -> StressResult:
    """The stress, and beside what it says of itself the levels before and after."""
    source = _checked(samples, scene.utterance)
    result = stressor.put(source, scene)
    levels = level("source_level_dbfs", source) | level("level_dbfs", result.samples)
    achieved = {key: value for key, value in (result.achieved | levels).items() if math.isfinite(value)}
    return dataclasses.replace(result, achieved=achieved)


def _checked(samples: np.ndarray, utterance: str) -> np.ndarray:
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.size == 0 or not np.issubdtype(samples.dtype, np.floating):
        raise StressError("bad_samples", f"samples must be (n,) floats; got {samples.dtype} {samples.shape}")
    if not np.isfinite(samples).all() or np.abs(samples).max() > np.finfo(np.float32).max:
        raise StressError("bad_samples", f"{utterance}: samples must be finite, in float32 too")
    return samples
