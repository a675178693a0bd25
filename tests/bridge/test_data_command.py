"""`spi data`: what it says, where it writes, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.cli import run_command
from tests.empirical.test_librispeech import archive, publish, tree
from tests.helpers.file_server import Server, Site, fresh, good, running_site, status


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_site() as running:
        yield running


@pytest.fixture
def site(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Site:
    """A server that has the small subset which stands for test-clean."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    tree(tmp_path / "source")
    content = archive(tmp_path / "source")
    publish(monkeypatch, content)
    site = fresh(server)
    site.serving(content, good, at="test-clean.tar.gz")
    monkeypatch.setattr("empirical.speech.librispeech.MIRRORS", (site.address,))
    return site


def test_fetch_and_check_in_one_go(site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    fetch = ["data", "fetch", "librispeech", "test-clean", "--out", str(out)]
    assert run_command([*fetch, "--dry-run", "--json"]) == 0
    (plan,) = json.loads(capsys.readouterr().out)
    assert plan["subset"] == "test-clean" and not plan["there"] and not out.exists() and site.asked == []
    assert run_command([*fetch, "--json"]) == 0
    said = capsys.readouterr()
    (check,) = json.loads(said.out)
    assert check["whole"] and check["utterances"] == 6 and said.err == ""
    assert run_command([*fetch, "--dry-run"]) == run_command(fetch) == 0
    assert "test-clean: there" in capsys.readouterr().out and len(site.asked) == 1
    assert run_command(["data", "check", str(out), "--read", "names"]) == 0
    assert "LibriSpeech test-clean: 6 of 6 utterances, 2 of 2 readers, whole" in capsys.readouterr().out


def test_check_names_what_is_wrong_and_exits_with_7(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "source/LibriSpeech/test-clean/12/345/12-345-0001.flac").unlink()
    check = ["data", "check", str(tmp_path / "source")]
    assert run_command(check) == 7
    said = capsys.readouterr().out
    assert "kept out, orphan_transcript: 1\n" in said and "kept out, not_audio: 5\n" in said
    assert "  missing: 1\n    12/345/12-345-0001.flac" in said
    assert run_command([*check, "--json"]) == 7
    found = json.loads(capsys.readouterr().out)
    assert found["codes"] == {"not_audio": 5, "orphan_transcript": 1} and not found["whole"]
    assert found["subsets"][0]["missing"] == ["12/345/12-345-0001.flac"]
    assert all(each["name"].startswith(("12-", "60-")) for each in found["rejected"])


def test_a_manifest_is_checked_as_a_folder_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree(tmp_path)
    table = tmp_path / "m.jsonl"
    first = "LibriSpeech/test-clean/12/345/12-345-0000.flac"
    table.write_text(json.dumps({"audio": first, "text": "A"}) + "\n")
    assert run_command(["data", "check", str(table), "--read", "names"]) == 0
    assert "1 clips, 1 with a transcript, 1 speakers" in capsys.readouterr().out
    table.write_text(table.read_text() + '{"audio": "LibriSpe')
    assert run_command(["data", "check", str(table), "--read", "names"]) == 7
    assert "m.jsonl: line 2: not a JSON object" in capsys.readouterr().out


def test_bundled_clips_are_whole(capsys: pytest.CaptureFixture[str]) -> None:
    from empirical.speech.clips import bundled_clips

    clips = bundled_clips()
    root = clips[0].path.parents[2]
    assert run_command(["data", "check", str(root), "--read", "samples", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["clips"] == len(clips) and found["duration_s"] > len(clips) / 2 and found["untimed"] == 0


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["fetch", "librispeech", "test-cleen", "--out", "OUT"], 2, "subsets must be among"),
        (["fetch", "tedlium", "x", "--out", "OUT"], 2, "corpus must be librispeech"),
        (["fetch", "librispeech", "test-clean", "--out", "OUT", "--mirror", "file:///x"], 2, "http:// or https://"),
        (["fetch", "librispeech", "test-clean", "--out", "FILE"], 5, "cannot be written"),
        (["check", "OUT"], 3, "no such file"),
        (["check", "FILE", "--read", "all"], 2, "read must be one of names, headers, samples"),
        (["check", "TABLE"], 3, "first line must name a column"),
    ],
)
def test_bad_input_is_one_line(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "table.tsv").write_text("x\ty\n")
    places = {"OUT": "out", "FILE": "file", "TABLE": "table.tsv"}
    assert run_command(["data", *(str(tmp_path / places[one]) if one in places else one for one in arguments)]) == code
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_server_that_has_it_not_and_one_that_has_other_bytes(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch = ["data", "fetch", "librispeech", "test-clean", "--out", str(tmp_path / "out")]
    site.serving(b"", status(404), at="test-clean.tar.gz")
    assert run_command(fetch) == 7
    assert "status 404" in capsys.readouterr().err
    size = len(archive(tmp_path / "source"))
    site.serving(bytes(size), good, at="test-clean.tar.gz")
    assert run_command(fetch) == 7
    assert "the published one" in capsys.readouterr().err


def test_what_can_be_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["data", "list", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert (listed["test-clean"]["utterances"], listed["test-other"]["utterances"]) == (2620, 2939)
    assert run_command(["data", "list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(listed)
