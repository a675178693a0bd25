"""A run that is killed outright, in either phase, leaves whole parts and no process; going on gives what an unbroken
run gives, to the bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bridge.running.files import read_provenance
from bridge.running.schema import TIMING_COLUMNS
from tests.helpers.processes import alive

CLIPS = [f"{voice}{number}" for voice in "abc" for number in range(8)]
SHARDS = 2 * 3
LISTENING = "listen--"
PATIENCE_S = 60.0

PROGRAM = """
import sys
import bridge.running.inputs
from bridge.cli import run_command
if __name__ == "__main__":
    bridge.running.inputs.JOBS = "tests.bridge.fake_jobs"
    sys.exit(run_command(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("killed") / "audio"
    directory.mkdir()
    for name in CLIPS:
        (directory / f"{name}.clip").write_text(name, encoding="utf-8")
    (directory.parent / "program.py").write_text(PROGRAM, encoding="utf-8")
    return directory


@pytest.fixture(scope="module")
def whole(audio: Path) -> dict[str, pa.Table]:
    """The tables of an unbroken run."""
    assert _start(audio, "whole").wait(PATIENCE_S) == 0
    return _tables(audio.parent / "whole")


def _start(audio: Path, out: str) -> subprocess.Popen[bytes]:
    options = ["--audio", str(audio), "--out", str(audio.parent / out), "--workers", "2", "--quiet"]
    command = [sys.executable, str(audio.parent / "program.py"), "measure", *options, "--conditions", "clean,mix,noise"]
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen([*command, "--sequence-clips", "2"], cwd=root, env=environment)


def _parts(root: Path, *, heard: bool) -> list[Path]:
    found = [path for path in (root / "parts").glob("[!.]*") if (path / "part.json").exists()]
    return [path for path in found if path.name.startswith(LISTENING) == heard]


def _tables(root: Path) -> dict[str, pa.Table]:
    """Merged records, and the vectors of every part; without the columns that time them."""
    paths = [*(root / "records").glob("*.parquet"), *(root / "parts").glob("*/vectors.parquet")]
    tables = {f"{path.parent.name}/{path.name}": pq.read_table(path) for path in paths}
    return {
        name: table.drop_columns(
            [column for column in (*TIMING_COLUMNS, "peak_rss_bytes") if column in table.column_names]
        ).replace_schema_metadata(None)
        for name, table in sorted(tables.items())
    }


def test_killed_in_both_phases_and_gone_on_with_gives_the_same_tables(audio: Path, whole: dict[str, pa.Table]) -> None:
    name = "stopped"
    root = audio.parent / name
    slow = audio.parent / "slow"
    slow.touch()
    try:
        for heard, count, total in ((True, 2, SHARDS), (False, 5, 2 * (24 * 3 + 2 * 2))):
            process = _start(audio, name)
            limit = time.monotonic() + PATIENCE_S
            while len(_parts(root, heard=heard)) < count and process.poll() is None and time.monotonic() < limit:
                time.sleep(0.005)
            # Of the earlier kill's too: they are gone, and stay so.
            workers = {read_provenance(next(path.glob("*.parquet")))["pid"] for path in _parts(root, heard=heard)}
            process.kill()
            if not heard:  # the first time the run alone, the second its workers too
                for worker in workers:
                    _kill(worker)
            process.wait()
            limit = time.monotonic() + PATIENCE_S
            while any(map(alive, workers)) and time.monotonic() < limit:
                time.sleep(0.005)
            assert not any(map(alive, workers))
            assert count <= len(_parts(root, heard=heard)) < total
            assert not (root / "records" / "clips.parquet").exists()
    finally:
        slow.unlink()
    kept = {path: path.stat().st_mtime_ns for heard in (True, False) for path in _parts(root, heard=heard)}
    assert _start(audio, name).wait(PATIENCE_S) == 0
    assert all(path.stat().st_mtime_ns == then for path, then in kept.items())
    assert not list(root.rglob(".partial-*"))
    assert _tables(root) == whole


def _kill(worker: int) -> None:
    try:
        os.kill(worker, signal.SIGKILL)
    except ProcessLookupError:
        return
