"""The run directory: parts whole or absent, other settings refused, and tables that do not depend on the order."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bridge.errors import ExitCode, OtherSettingsError
from bridge.running.files import read_provenance, write_json, write_table
from bridge.running.schema import LAYERS, to_table
from bridge.running.store import Part, RunStore, UnwritableError, first_difference, settings_digest, write_part

SETTINGS = {"schema_version": 1, "models": [{"name": "a", "sha256": "00"}], "limit": None, "seed": 0}


def _store(root: Path, **changes: Any) -> RunStore:
    store = RunStore(root, {**SETTINGS, **changes})
    store.open()
    return store


def _layer(number: int, **values: Any) -> dict[str, Any]:
    row = {"model": "a", "clip": "c", "condition": "clean", "state": "position", "layer": number, "layers": 2}
    row |= {"alignment": math.nan if number == 1 else 0.5, "context_s": [3.0, math.nan], "converged": [True, False]}
    return {**row, "seconds": 0.1 * number, **values}


def _write(store: RunStore, task: str = "t1", **tables: list[dict[str, Any]]) -> Part:
    return write_part(
        store.parts,
        task,
        tables or {"layers": [_layer(1), _layer(2)], "activations": []},
        settings=store.digest,
        provenance={"seed": 0, "model": {"name": "a"}},
        seconds=1.5,
        peak_rss_bytes=7,
    )


def test_a_part_is_read_back_as_it_was_written_with_its_provenance(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    part = _write(store)
    assert store.finished("t1") == part
    assert part.rows == {"layers": 2, "activations": 0}
    table = store.read_part("t1", "layers")
    assert table.schema.field("alignment").type == LAYERS["alignment"]
    assert table.column("converged").to_pylist() == [[True, False]] * 2
    assert math.isnan(table.column("alignment").to_pylist()[0])
    stamp = read_provenance(store.parts / "t1" / "layers.parquet")
    assert stamp["task"] == "t1" and stamp["settings"] == store.digest
    assert stamp["seconds"] == 1.5 and stamp["peak_rss_bytes"] == 7 and stamp["model"] == {"name": "a"}
    assert not list(store.parts.glob(".*"))


def test_a_part_without_directory_is_not_finished(tmp_path: Path) -> None:
    assert _store(tmp_path / "run").finished("t1") is None


@pytest.mark.parametrize("damage", ["cut", "missing table", "bad json", "fewer rows", "other settings"])
def test_a_damaged_part_is_not_finished_and_is_replaced(tmp_path: Path, damage: str) -> None:
    store = _store(tmp_path / "run")
    _write(store)
    table, note = store.parts / "t1" / "layers.parquet", store.parts / "t1" / "part.json"
    if damage == "cut":
        table.write_bytes(table.read_bytes()[:-20])
    elif damage == "missing table":
        table.unlink()
    elif damage == "bad json":
        note.write_text("{", encoding="utf-8")
    elif damage == "fewer rows":
        write_table(table, to_table("layers", [_layer(1)]), {"settings": store.digest})
    else:
        write_table(table, to_table("layers", [_layer(1), _layer(2)]), {"settings": "other"})
    assert store.finished("t1") is None
    _write(store)
    assert store.finished("t1") is not None


@pytest.mark.parametrize("place", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_flipped_bit_anywhere_in_a_table_is_seen(tmp_path: Path, place: float) -> None:
    store = _store(tmp_path / "run")
    _write(store)
    table = store.parts / "t1" / "layers.parquet"
    content = bytearray(table.read_bytes())
    content[round(place * (len(content) - 1))] ^= 0x01
    table.write_bytes(content)
    assert store.finished("t1") is None


def test_damage_that_still_decodes_is_seen_by_the_page_checksums(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    _write(store, layers=[_layer(n, context_s=[n + i / 7 for i in range(50)]) for n in range(1, 40)])
    path = store.parts / "t1" / "layers.parquet"
    whole = path.read_bytes()
    expected = repr(pq.ParquetFile(path).read().to_pylist())
    group = pq.ParquetFile(path).metadata.row_group(0)
    columns = {group.column(index).path_in_schema: group.column(index) for index in range(group.num_columns)}
    chosen = columns["context_s.list.element"]
    first = (chosen.dictionary_page_offset or chosen.data_page_offset) + chosen.total_compressed_size // 4
    for place in range(first, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x01]) + whole[place + 1 :])
        try:
            unnoticed = repr(pq.ParquetFile(path).read().to_pylist()) != expected
        except (OSError, pa.ArrowException):
            continue
        if unnoticed:  # another number, read without a word
            break
    else:
        pytest.fail("no byte was found whose damage decodes")
    with pytest.raises(OSError, match="CRC"):
        store.read_part("t1", "layers")


def test_a_part_without_rows_is_known_by_its_settings_too(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    part = write_part(store.parts, "t1", {}, settings="other", provenance={}, seconds=0.0, peak_rss_bytes=0)
    assert part.rows == {} and store.finished("t1") is None
    write_part(store.parts, "t1", {}, settings=store.digest, provenance={}, seconds=0.0, peak_rss_bytes=0)
    assert store.finished("t1") is not None


def test_an_interrupted_write_leaves_nothing_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(tmp_path / "run")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bridge.running.store.write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        _write(store)
    assert [path.name.startswith(".partial-") for path in store.parts.iterdir()] == [True]
    assert store.finished("t1") is None
    assert store.sweep() == 1
    assert list(store.parts.iterdir()) == []


def test_the_same_settings_go_on_and_keep_what_is_there(tmp_path: Path) -> None:
    _write(_store(tmp_path / "run"))
    again = _store(tmp_path / "run")
    assert again.finished("t1") is not None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"limit": 3}, "limit is null there and 3 here"),
        ({"models": [{"name": "a", "sha256": "11"}]}, 'models[1].sha256 is "00" there and "11" here'),
        ({"models": [{"name": "a", "sha256": "00"}] * 2}, "models is a list of 1 there and a list of 2 here"),
        ({"extra": 1}, "extra is null there and 1 here"),
    ],
)
def test_other_settings_are_refused_naming_the_first_difference(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    _write(_store(tmp_path / "run"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(OtherSettingsError) as caught:
        _store(tmp_path / "run", **changes)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.OTHER_SETTINGS == 5
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_directory_that_is_no_run_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(OtherSettingsError, match="is not a run of spi"):
        _store(tmp_path)
    with pytest.raises(OtherSettingsError, match="is not a run of spi"):
        _store(tmp_path / "thesis.tex")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unreadable_settings_are_refused(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    (store.root / "settings.json").write_text("{", encoding="utf-8")
    with pytest.raises(OtherSettingsError, match=r"settings\.json cannot be read"):
        _store(tmp_path / "run")


def test_no_resume_refuses_even_the_same_run(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    with pytest.raises(OtherSettingsError, match="already holds this run"):
        store.open(resume=False)


def test_an_empty_directory_and_a_new_one_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for root in (tmp_path / "empty", tmp_path / "new" / "deep"):
        _store(root)
        assert json.loads((root / "settings.json").read_text(encoding="utf-8"))["digest"] == settings_digest(SETTINGS)


def test_check_writes_nothing(tmp_path: Path) -> None:
    assert RunStore(tmp_path / "run", SETTINGS).check() is False
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_in_the_same_directory_is_kept_out(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    with (
        store.lock(),
        pytest.raises(OtherSettingsError, match="another spi run is at work"),
        _store(tmp_path / "run").lock(),
    ):
        pytest.fail("two runs held the lock")
    with store.lock():
        pass


def test_of_two_runs_that_begin_at_once_neither_takes_the_others_directory(tmp_path: Path) -> None:
    mine, theirs = RunStore(tmp_path / "run", SETTINGS), RunStore(tmp_path / "run", {**SETTINGS, "seed": 1})
    assert not mine.check() and not theirs.check()
    with mine.lock():
        assert not theirs.check()  # the lock alone is no run yet
        with pytest.raises(OtherSettingsError, match="another spi run is at work"), theirs.lock():
            pytest.fail("two runs held the lock")
        mine.open()
    with theirs.lock(), pytest.raises(OtherSettingsError, match="other settings: seed is 0 there and 1 here"):
        theirs.open()


def test_what_a_run_that_came_to_nothing_left_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".partial-parts").touch()
    store = _store(tmp_path)
    assert store.check() and store.sweep() == 1


def test_a_place_where_no_lock_can_be_made_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "run" / ".lock").mkdir(parents=True)  # as nobody can open it for writing
    (tmp_path / "file").touch()
    for root in (tmp_path / "run", tmp_path / "file" / "run"):
        with (
            pytest.raises(OtherSettingsError, match=r"cannot be written: (Is|Not) a directory"),
            RunStore(root, {}).lock(),
        ):
            pytest.fail("it was locked")


def test_a_part_that_finds_no_room_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(tmp_path / "run")

    def full(path: Path, *_: object) -> None:
        path.write_bytes(b"the first of many")
        raise OSError(errno.ENOSPC, "wherever that was")

    monkeypatch.setattr("bridge.running.store.write_table", full)
    with pytest.raises(UnwritableError, match="parts cannot be written: No space left on device"):
        _write(store, layers=[_layer(1)])
    assert list(store.parts.iterdir()) == []


def test_a_file_that_finds_no_room_leaves_the_one_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "a.json", 1)

    def full(self: Path, *_: object, **__: object) -> None:
        self.touch()
        raise OSError(errno.ENOSPC, "wherever that was")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError):
        write_json(tmp_path / "a.json", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"1\n"


def test_merging_follows_the_tasks_and_not_the_order_of_writing(tmp_path: Path) -> None:
    contents = []
    for name, order in (("one", ("t1", "t2", "t3")), ("two", ("t3", "t1", "t2"))):
        store = _store(tmp_path / name)
        for task in order:
            number = int(task[1])
            _write(store, task, layers=[_layer(1, clip=f"c{number}"), _layer(2, clip=f"c{number}")])
        assert store.merge(["t1", "t2", "t3"], {"seed": 0}) == {"layers": 6}
        contents.append((store.records / "layers.parquet").read_bytes())
    table = pq.read_table(store.records / "layers.parquet")
    assert table.column("clip").to_pylist() == ["c1", "c1", "c2", "c2", "c3", "c3"]
    assert contents[0] == contents[1]


def test_a_table_of_which_nothing_is_left_is_not_left_from_an_earlier_merge(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    refused = {"model": "a", "clip": "c", "condition": "mix", "type": "StressError", "code": "pool_empty"}
    _write(store, "t1", layers=[_layer(1)], refused=[refused])
    assert store.merge(["t1"], {}) == {"layers": 1, "refused": 1}
    kept = [store.records / f"{name}.parquet" for name in ("nulls", "detectors", "tasks")]
    for path in kept:
        path.touch()
    _write(store, "t1", layers=[_layer(1)])  # heard after all
    assert store.merge(["t1"], {}) == {"layers": 1}
    assert not (store.records / "refused.parquet").exists() and all(path.exists() for path in kept)


def test_merging_is_putting_the_parts_one_behind_the_other_whatever_their_columns(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    rng = np.random.default_rng(0)
    for number in range(40):
        rows = [
            {"model": "a", "clip": f"c{number:02d}", "condition": "clean", "layer": n, "context_s": list(rng.random(9))}
            for n in range(number % 5)
        ]
        extra = [{**row, f"own_{number % 3}": number + 0.5 * (number > 20)} for row in rows]
        _write(store, f"t{number:02d}", layers=extra)
    names = [f"t{number:02d}" for number in range(40)]
    assert store.merge(names, {}) == {"layers": sum(number % 5 for number in range(40))}
    parts = [store.read_part(name, "layers") for name in names if (store.parts / name / "layers.parquet").exists()]
    together = pa.concat_tables([part.replace_schema_metadata(None) for part in parts], promote_options="permissive")
    assert pq.read_table(store.records / "layers.parquet").replace_schema_metadata(None).equals(together)


def test_a_table_is_cut_into_row_groups_and_no_row_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.running.files._ROW_GROUP_BYTES", 1000)
    store = _store(tmp_path / "run")
    for number in range(60):
        _write(store, f"t{number:02d}", layers=[_layer(1, clip=f"c{number:02d}", sigma=float(number))])
    assert store.merge([f"t{number:02d}" for number in range(60)], {}) == {"layers": 60}
    file = pq.ParquetFile(store.records / "layers.parquet")
    assert 2 < file.num_row_groups < 60
    assert file.read().column("sigma").to_pylist() == [float(number) for number in range(60)]


def test_a_part_that_is_damaged_leaves_the_merged_table_before_it(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    _write(store, "t1", layers=[_layer(1)])
    store.merge(["t1"], {})
    before = (store.records / "layers.parquet").read_bytes()
    _write(store, "t2", layers=[_layer(1)])
    write_table(store.parts / "t2" / "layers.parquet", to_table("layers", [_layer(1)]), {"settings": "other"})
    with pytest.raises(ValueError, match=r"t2.layers\.parquet was measured under other settings"):
        store.merge(["t1", "t2"], {})
    assert [path.name for path in store.records.iterdir()] == ["layers.parquet"]
    assert (store.records / "layers.parquet").read_bytes() == before


def _vector(clip: str, component: str, layer: int, x: np.ndarray) -> dict[str, Any]:
    own = {"model": "a", "clip": clip, "condition": "clean", "component": component, "layer": layer}
    return {**own, "n_tokens": x.shape[0], "d_model": x.shape[1], "x": x.ravel()}


def test_vectors_stay_in_their_part_one_row_group_a_component_and_layer(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    rng = np.random.default_rng(0)
    made = {
        (clip, component, layer): rng.standard_normal((tokens, 4), dtype=np.float32)
        for clip, tokens in (("c", 3), ("d", 5))
        for component in ("self-attention", "cross-attention")
        for layer in (1, 2)
    }
    part = _write(store, "t1", vectors=[_vector(*key, x) for key, x in made.items()], clips=[{"model": "a"}])
    assert part.rows == {"vectors": 8, "clips": 1} and store.finished("t1") == part
    assert store.merge(["t1"], {}) == {"clips": 1}
    assert not (store.records / "vectors.parquet").exists()
    file = pq.ParquetFile(store.parts / "t1" / "vectors.parquet", page_checksum_verification=True)
    groups = [file.read_row_group(number).to_pylist() for number in range(file.num_row_groups)]
    assert [(group[0]["component"], group[0]["layer"]) for group in groups] == [
        *(("cross-attention", 1), ("cross-attention", 2), ("self-attention", 1), ("self-attention", 2))
    ]
    for group in groups:
        assert [row["clip"] for row in group] == ["c", "d"]
        for row in group:
            x = np.array(row["x"], np.float32).reshape(row["n_tokens"], row["d_model"])
            assert np.array_equal(x, made[row["clip"], row["component"], row["layer"]])
    from bridge.comparison.vectors import PartVectors

    found = PartVectors(store.parts, store.digest)
    assert [group[1:] for group in found.groups()] == [(rows[0]["component"], rows[0]["layer"]) for rows in groups]


def test_columns_empty_in_one_part_keep_their_type(tmp_path: Path) -> None:
    store = _store(tmp_path / "run")
    row = {"model": "a", "clip": "c", "condition": "clean"}
    _write(store, "t1", clips=[{**row, "reference": None, "wer": None, "own": None}])
    _write(store, "t2", clips=[{**row, "clip": "d", "reference": "said", "wer": 0, "own": 3}])
    store.merge(["t1", "t2"], {})
    schema = pq.read_schema(store.records / "clips.parquet")
    assert (schema.field("reference").type, schema.field("wer").type) == (pa.string(), pa.float64())
    assert schema.field("own").type == pa.int64()


def test_a_value_of_the_wrong_type_names_its_column() -> None:
    with pytest.raises(ValueError, match=r"layers\.sigma must hold double"):
        to_table("layers", [_layer(1, sigma="large")])


def test_difference_is_none_for_equal_trees_and_tells_types_apart() -> None:
    assert first_difference(SETTINGS, json.loads(json.dumps(SETTINGS))) is None
    assert first_difference({"a": True}, {"a": 1}) == "a is true there and 1 here"
    assert first_difference({"a": 1, "b": 2}, {"a": 1}) == "b is 2 there and null here"


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert settings_digest({"a": 1, "b": 2}) == settings_digest({"b": 2, "a": 1}) != settings_digest({"a": 1, "b": 3})
