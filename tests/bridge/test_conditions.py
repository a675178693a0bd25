"""Which stresses claims are averaged over."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bridge.comparison.conditions import judged
from bridge.comparison.pooled import ALL_STRESSES, TOGETHER, pool


@pytest.mark.parametrize(
    ("conditions", "meant"),
    [
        (["clean", "noise", "stretch", "noise:snr_db=20", "silence"], ["stretch", "noise"]),
        (["clean", "noise:snr_db=10", "clipping", "silence"], ["noise:snr_db=10", "clipping"]),
        (["clean", "non_speech"], []),
    ],
)
def test_the_papers_own_stresses_are_judged_where_any_was_run(conditions: list[str], meant: list[str]) -> None:
    assert judged(conditions) == meant


def test_steps_of_a_ladder_move_neither_the_mean_nor_what_is_pooled_together() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for clip in range(8):
        for condition, scale in (("clean", 1.0), ("noise", 2.0), ("mix", 0.5), ("noise:snr_db=20", 9.0)):
            x = (scale * rng.standard_normal((14, 12)) * np.geomspace(1, 0.1, 12)).astype(np.float32)
            named = {"model": "m", "clip": f"c{clip}", "condition": condition, "component": "cross-attention"}
            rows.append(named | {"layer": 1, "n_tokens": 14, "d_model": 12, "x": x.ravel()})
    table = pd.DataFrame(rows)
    ladder = table["condition"] == "noise:snr_db=20"
    for stress in (ALL_STRESSES, TOGETHER):
        with_ladder, without = (
            pool(one, seed=3, resamples=50).summary.query(f"stress == '{stress}' and k == 10").reset_index(drop=True)
            for one in (table, table[~ladder])
        )
        assert len(without)
        pd.testing.assert_frame_equal(with_ladder, without)
