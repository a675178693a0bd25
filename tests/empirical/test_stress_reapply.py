"""A recorded stress is put on again to the byte, whatever else the pool has by then."""

from __future__ import annotations

import json

import numpy as np
import pytest

from empirical.stress import PoolClip, StressError, apply, parse, reapply
from tests.empirical.stress_sounds import noises_of, pool_of, speech
from tests.empirical.test_stress import EVERY


@pytest.mark.parametrize("condition", EVERY)
def test_what_was_recorded_is_made_again_from_another_pool(condition: str) -> None:
    kind, x = parse(condition), speech()
    first = apply(kind, x, utterance="s0-0", seed=3, pool=pool_of(8), noises=noises_of(3))
    recorded = json.loads(json.dumps(first.parameters))  # as a manifest gives it back
    pool, noises = pool_of(12, clips=4)[::-1], noises_of(9)[::-1]
    # As many speakers again: an apply of now draws others, and the seed is told so that it cannot be the reason.
    again = reapply(kind, recorded, x, utterance="s0-0", seed=3, pool=pool, noises=noises)
    np.testing.assert_array_equal(again.samples, first.samples)
    assert again.achieved == first.achieved and again.parameters == first.parameters
    assert again.notes == first.notes and again.speech == first.speech


def test_apply_would_have_drawn_others() -> None:
    first = apply(parse("mix"), speech(), utterance="s0-0", seed=3, pool=pool_of(8))
    now = apply(parse("mix"), speech(), utterance="s0-0", seed=3, pool=pool_of(12, clips=4))
    assert now.parameters != first.parameters


@pytest.mark.parametrize("condition", ["mix", "noise:kind=babble", "noise:kind=folder", "noise+mix"])
def test_what_is_gone_is_missed(condition: str) -> None:
    kind, x = parse(condition), speech()
    first = apply(kind, x, utterance="s0-0", seed=3, pool=pool_of(8), noises=noises_of(3))
    silent = [PoolClip(clip.name, clip.speaker, lambda: np.zeros(100)) for clip in [*pool_of(8), *noises_of(3)]]
    for gone in ([], silent):
        with pytest.raises(StressError) as caught:
            reapply(kind, first.parameters, x, utterance="s0-0", seed=3, pool=gone, noises=gone)
        assert caught.value.code == "pool_missing"


@pytest.mark.parametrize(
    ("condition", "recorded"),
    [
        ("noise:snr_db=5", {"snr_db": 0.0, "kind": "white", "talkers": 6}),
        ("noise", {}),
        ("mix", {"speakers": 6, "level_db": 0.0}),
        ("mix", {"speakers": 6, "level_db": 0.0, "others": []}),
        ("mix", {"speakers": 6, "level_db": 0.0, "others": "s1-0"}),
        ("mix", {"speakers": 6, "level_db": 0.0, "others": [{"utterance": "s1-0"}]}),
        ("mix", {"speakers": 6, "level_db": 0.0, "others": [{"utterance": "s1-0", "start": -1}]}),
        ("noise:kind=folder", {"snr_db": 0.0, "kind": "folder", "talkers": 6}),
        ("noise+reverberation", {"parts": []}),
        ("noise+reverberation", {"parts": [{"stressor": "noise"}, {"stressor": "reverberation"}]}),
        ("noise+noise", {"parts": [{"stressor": "noise", "parameters": {}}, {"stressor": "mix", "parameters": {}}]}),
        ("noise+noise:snr_db=5", {"parts": [{"stressor": "noise", "parameters": {"snr_db": 9.0}}] * 2}),
    ],
)
def test_records_of_another_stress_are_refused(condition: str, recorded: dict[str, object]) -> None:
    with pytest.raises(StressError) as caught:
        reapply(parse(condition), recorded, speech(), utterance="u", seed=0, pool=pool_of(3), noises=noises_of(1))
    assert caught.value.code == "bad_parameter"
