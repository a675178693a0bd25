"""The models of a run: those that do not load, their names, and the null models beside them."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from bridge.errors import ConfigError, ModelError
from bridge.running import pipeline
from bridge.running.config import make_config
from bridge.running.files import write_table
from bridge.running.pool import Job, WorkerPool
from tests.bridge.fake_jobs import inspect_model
from tests.helpers.fake_runs import SHARDS, run_fake, tables_of

pytestmark = pytest.mark.usefixtures("without_models")


def test_models_that_do_not_load_end_the_run_before_anything_is_written(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="bad-model lacks a tensor") as caught:
        run_fake(audio, tmp_path / "run", model=["bad-model"])
    assert caught.value.exit_code == 4 and not caught.value.verbatim
    with pytest.raises(ModelError) as caught:
        run_fake(audio, tmp_path / "run", model=["hub/tiny"])
    assert str(caught.value) == "tried hub/tiny\npass a directory instead" and caught.value.verbatim
    assert not (tmp_path / "run").exists()


def test_a_model_that_takes_the_worker_with_it_is_one_that_does_not_load(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^deadly: the worker process ended .* run out of memory"):
        run_fake(audio, tmp_path / "run", model=("deadly",))
    assert not (tmp_path / "run").exists()


def test_more_singular_values_than_a_model_has_are_refused(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="k must be at most 8, the width of fake-a; got 9"):
        run_fake(audio, tmp_path / "run", k=9)
    assert not (tmp_path / "run").exists()


def test_models_of_one_name_are_told_apart_and_the_same_model_is_refused(audio: Path, tmp_path: Path) -> None:
    run_fake(audio, tmp_path / "run", model=["x/m", "y/m"], conditions="clean", states="position", limit=1)
    names = set(tables_of(tmp_path / "run")["layers"].column("model").to_pylist())
    assert len(names) == 2 and all(name.startswith("m@") for name in names)


def test_asked_for_null_models_are_measured_and_merged(audio: Path, tmp_path: Path) -> None:
    options = {"nulls": 3, "limit": 1, "conditions": "clean", "states": "position"}
    summary = run_fake(audio, tmp_path / "run", **options)
    assert summary.tasks["ok"] == SHARDS + 2 + 2 * 3
    nulls = tables_of(tmp_path / "run")["nulls"]
    assert nulls.num_rows == 2 * 3 * 3
    assert set(nulls.column("draw").to_pylist()) == {0, 1, 2}


@pytest.mark.parametrize(("sha256", "used"), [(None, True), ("right", True), ("wrong", False)])
def test_shipped_nulls_are_used_if_they_are_of_these_weights(
    audio: Path, tmp_path: Path, sha256: str | None, used: bool
) -> None:
    model = tmp_path / "renamed"
    model.mkdir()
    right = inspect_model(str(model), "float32", "cpu", None)["sha256"]
    stamp = {} if sha256 is None else {"model": {"sha256": right if sha256 == "right" else "0"}}
    table = pa.table({"model": ["original"], "null": ["random_weights"], "draw": [0], "sigma": [1.5]})
    write_table(model / "nulls.parquet", table, stamp)
    options = {"limit": 1, "conditions": "clean", "states": "position"}
    summary = run_fake(audio, tmp_path / "run", model=[str(model)], nulls=2, **options)
    nulls = tables_of(tmp_path / "run")["nulls"]
    if used:
        assert nulls.column("model").to_pylist() == ["renamed"] and summary.tasks["ok"] == 2
    else:
        assert set(nulls.column("draw").to_pylist()) == {0, 1} and summary.tasks["ok"] == 4


def test_local_models_are_measured_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    for model, offline in (([], "1"), ([str(tmp_path)], "1"), (["someone/model"], None)):
        with pipeline.worker_pool(make_config(None, {"model": model or None, "workers": 1})) as pool:
            assert _asked(pool, "HF_HUB_OFFLINE") == offline
            assert _asked(pool, "TRANSFORMERS_VERBOSITY") == "error"
    assert "HF_HUB_OFFLINE" not in os.environ


def _asked(pool: WorkerPool, name: str) -> str | None:
    (reply,) = pool.run([Job("a", "tests.bridge.pool_jobs:environment", {"names": [name]})])
    return reply.value[name]
