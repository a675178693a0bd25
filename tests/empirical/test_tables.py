"""Manifests of clips: JSON lines and tables, whichever names their columns have; a bad line costs itself alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from empirical.speech.clips import Clip, ClipError, find_clips, scan_clips
from tests.helpers.shared_data import needs_shared_data, shared_data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.flac", "deep/1-2-0003.flac"):
        path = tmp_path / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines))
    return path


def test_names_that_other_tools_give_the_fields(folder: Path) -> None:
    audio = folder / "audio"
    ours = write(folder / "ours.jsonl", {"audio": "audio/a.wav", "id": "one", "reference": "A  B", "speaker": 7})
    nemo = write(folder / "nemo.jsonl", {"audio_filepath": str(audio / "a.wav"), "text": "A B", "duration": 1.5})
    faces = write(folder / "metadata.jsonl", {"file_name": "audio/a.wav", "transcription": "A B"})
    voice = write(folder / "voice.tsv", "client_id\tpath\tsentence\tage", '7\taudio/a.wav\tA "B"\t')
    assert find_clips(ours) == [Clip("one", audio / "a.wav", "A B", "7")]
    assert find_clips(nemo) == find_clips(faces) == [Clip("a", audio / "a.wav", "A B", None)]
    assert find_clips(voice) == [Clip("a", audio / "a.wav", 'A "B"', "7")]


def test_lines_are_sorted_by_name_and_a_librispeech_name_tells_its_speaker(folder: Path) -> None:
    table = write(folder / "m.tsv", "path\ttext", "audio/deep/1-2-0003.flac\tX", "audio/b.flac\t", "audio/a.wav\tY")
    assert [(clip.name, clip.reference, clip.speaker) for clip in find_clips(table)] == [
        ("1-2-0003", "X", "1"),
        ("a", "Y", None),
        ("b", None, None),
    ]


def test_json_tells_a_transcript_of_nothing_from_none(folder: Path) -> None:
    table = write(folder / "n.jsonl", {"audio": "audio/a.wav", "text": None}, {"audio": "audio/b.flac", "text": " "})
    assert [clip.reference for clip in find_clips(table)] == [None, ""]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"audio": "audio/b.flac", "te', "not a JSON object"),  # cut in half
        ('["audio/b.flac"]', "not a JSON object"),
        ("[" * 100_000, "not a JSON object"),
        ({"text": "no audio"}, "no audio file"),
        ({"audio": ""}, "no audio file"),
        ({"audio": {"path": "audio/b.flac"}}, "audio must be text"),
        ({"audio": "audio/b.flac", "text": ["A"]}, "text must be text"),
        ({"audio": "audio/b.flac", "id": True}, "id must be text"),
        ({"audio": "audio/b.flac", "id": "../../b"}, "no slash"),
        ({"audio": "audio/b.flac", "id": ".."}, "no slash"),
        ({"audio": "audio/b.flac", "id": "b\nc"}, "no slash and no control character"),
        ({"audio": "audio/b.flac\0"}, "no path"),
        ({"audio": "audio/b.flac", "offset": 1.5}, "a piece of a recording"),
    ],
)
def test_a_bad_line_is_named_and_the_others_go_on(folder: Path, line: object, said: str) -> None:
    table = write(folder / "m.jsonl", {"audio": "audio/a.wav"}, line, "", {"audio": "audio/deep/1-2-0003.flac"})
    scan = scan_clips(table)
    assert [clip.name for clip in scan.clips] == ["1-2-0003", "a"]
    (bad,) = scan.rejected
    assert bad.code == "bad_line" and said in bad.detail and bad.detail.startswith("m.jsonl: line 2: ")
    with pytest.raises(ClipError, match="bad_line"):
        find_clips(table)


def test_a_row_of_other_fields_than_its_header(folder: Path) -> None:
    scan = scan_clips(write(folder / "m.tsv", "path\ttext", "audio/a.wav", "audio/b.flac\tX\r"))
    assert [(clip.name, clip.reference) for clip in scan.clips] == [("b", "X")]
    assert "line 2: 1 fields under a header of 2" in scan.rejected[0].detail


def test_absent_audio_and_one_name_twice(folder: Path) -> None:
    rows = [{"audio": "audio/none.wav"}, {"audio": "audio/a.wav"}, {"audio": "audio/b.flac", "id": "a"}]
    scan = scan_clips(write(folder / "m.jsonl", *rows, {"audio": "audio"}, {"audio": "audio/b.flac"}))
    assert [clip.name for clip in scan.clips] == ["b"]
    assert sorted((each.name, each.code) for each in scan.rejected) == [
        ("a", "duplicate_name"),
        ("a", "duplicate_name"),
        ("audio", "absent_audio"),
        ("none", "absent_audio"),
    ]
    assert "a: lines 2 and 3" in next(each.detail for each in scan.rejected if each.code == "duplicate_name")


def test_files_that_are_no_manifest_of_clips(folder: Path) -> None:
    stressed = write(folder / "stressed.jsonl", {"stressor": "noise", "result_sha256": "0", "audio": None})
    headless = write(folder / "headless.tsv", "1-2-0003\tA TRANSCRIPT")
    binary = folder / "binary.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, code, said in [
        (stressed, "unreadable_manifest", "--write-audio"),
        (headless, "unreadable_manifest", "first line must name a column of audio files"),
        (binary, "unreadable_manifest", "not UTF-8"),
        (write(folder / "empty.jsonl"), "no_audio", "no line"),
        (folder / "none.tsv", "missing", "No such file"),
    ]:
        with pytest.raises(ClipError, match=said) as caught:
            scan_clips(path)
        assert caught.value.code == code


@needs_shared_data
def test_a_table_of_real_speech() -> None:
    root = shared_data()
    assert root is not None
    scan = scan_clips(root / "odd_speech" / "SOURCES.tsv")
    assert {"jfk", "1320_00000"} <= {clip.name for clip in scan.clips}
    jfk = next(clip for clip in scan.clips if clip.name == "jfk")
    assert jfk.reference is not None and jfk.reference.startswith("And so my fellow Americans")
    assert {each.code for each in scan.rejected} <= {"absent_audio", "duplicate_name"}
