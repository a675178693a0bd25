"""Clips: both layouts are read alike, and nothing that is found is lost without a word."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from empirical.speech.audio import AudioError, load_audio
from empirical.speech.clips import Clip, ClipError, bundled_clips, find_clips, scan_clips
from tests.helpers.shared_data import needs_shared_data, shared_data


def put(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def test_librispeech_layout(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "12" / "345"
    second = put(folder / "12-345-0001.flac")
    first = put(folder / "12-345-0000.flac")
    put(folder / "12-345.trans.txt", "12-345-0000 A  HOUSE \n12-345-0001 AN APPLE\n12-345-0009 NOBODY'S\n")
    assert find_clips(tmp_path) == [
        Clip("12-345-0000", first, "A HOUSE", "12"),
        Clip("12-345-0001", second, "AN APPLE", "12"),
    ]


def test_named_speakers_need_their_folders(tmp_path: Path) -> None:
    put(tmp_path / "en+m1" / "a" / "en+m1-a-0000.flac")
    put(tmp_path / "other" / "take-two-0000.flac")
    assert [(clip.name, clip.speaker) for clip in find_clips(tmp_path)] == [
        ("en+m1-a-0000", "en+m1"),
        ("take-two-0000", None),
    ]


def test_flat_folder_takes_a_text_file_beside_the_audio(tmp_path: Path) -> None:
    put(tmp_path / "b.WAV")
    put(tmp_path / "a.mp3")
    put(tmp_path / "a.txt", "\ufeffhello\nworld\n")
    put(tmp_path / "SOURCES.tsv")
    put(tmp_path / ".hidden.wav")
    scan = scan_clips(tmp_path)
    assert [(clip.name, clip.reference, clip.speaker) for clip in scan.clips] == [
        ("a", "hello world", None),
        ("b", None, None),
    ]
    assert scan.ignored == 2 and scan.rejected == ()


def test_audio_of_undecodable_kinds_is_not_passed_over(tmp_path: Path) -> None:
    put(tmp_path / "a.m4a")
    put(tmp_path / "b.wma")
    assert [clip.name for clip in find_clips(tmp_path)] == ["a", "b"]


def test_one_utterance_id_twice_names_both_files(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a.wav")
    put(tmp_path / "y" / "a.flac")
    put(tmp_path / "y" / "b.flac")
    scan = scan_clips(tmp_path)
    assert [clip.name for clip in scan.clips] == ["b"]
    assert [each.path for each in scan.rejected] == [tmp_path / "x" / "a.wav", tmp_path / "y" / "a.flac"]
    assert {each.code for each in scan.rejected} == {"duplicate_name"}
    with pytest.raises(ClipError) as caught:
        find_clips(tmp_path)
    assert caught.value.code == "duplicate_name"
    assert f"{tmp_path}: a: x/a.wav and y/a.flac" in str(caught.value)


def test_directory_without_audio_and_no_directory(tmp_path: Path) -> None:
    put(tmp_path / "notes.txt")
    with pytest.raises(ClipError, match="no audio file") as caught:
        find_clips(tmp_path)
    assert caught.value.code == "no_audio"
    with pytest.raises(ClipError) as caught:
        find_clips(tmp_path / "none")
    assert caught.value.code == "missing"
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.code, str(again)) == ("missing", str(caught.value))
    with pytest.raises(KeyError, match=r"ClipError\.CODES"):
        ClipError("nonsense", "")


def test_a_single_file_is_one_clip(tmp_path: Path) -> None:
    path = put(tmp_path / "a.odd")
    assert find_clips(path) == [Clip("a", path, None, None)]


def test_bad_transcripts_reject_their_clip_alone(tmp_path: Path) -> None:
    put(tmp_path / "good" / "a.wav")
    put(tmp_path / "twice" / "b.wav")
    put(tmp_path / "twice" / "1.trans.txt", "b ONE\nb TWO\n")
    put(tmp_path / "bytes" / "c.wav")
    (tmp_path / "bytes" / "c.txt").write_bytes(b"\xff\xfe\x00")
    scan = scan_clips(tmp_path)
    assert [clip.name for clip in scan.clips] == ["a"]
    assert [(each.name, each.code) for each in scan.rejected] == [
        ("c", "unreadable_transcript"),
        ("b", "conflicting_transcript"),
    ]


def test_a_transcript_without_audio_is_named_and_spoils_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "12" / "345"
    put(folder / "12-345-0000.flac")
    put(folder / "12-345.trans.txt", "12-345-0000 A HOUSE\n12-345-0001 NOBODY SAID THIS\n")
    put(tmp_path / "12" / "346" / "12-346.trans.txt", "12-346-0000 A WHOLE CHAPTER LOST\n")
    scan = scan_clips(tmp_path)
    assert [clip.name for clip in scan.clips] == [clip.name for clip in find_clips(tmp_path)] == ["12-345-0000"]
    assert [(each.name, each.code) for each in scan.rejected] == [
        ("12-345-0001", "orphan_transcript"),
        ("12-346-0000", "orphan_transcript"),
    ]
    assert scan_clips(folder / "12-345-0000.flac").rejected == ()


@pytest.mark.parametrize("line", ["1-2-0001", "1-2-0001   ", "1-2-0001 ...", "1-2-0001 -"])
def test_a_librispeech_line_without_a_word_is_damage(tmp_path: Path, line: str) -> None:
    put(tmp_path / "1-2-0000.flac")
    put(tmp_path / "1-2-0001.flac")
    put(tmp_path / "1-2.trans.txt", f"1-2-0000 A WORD\n{line}\n")
    scan = scan_clips(tmp_path)
    assert [clip.reference for clip in scan.clips] == ["A WORD"]
    assert [(each.name, each.code) for each in scan.rejected] == [("1-2-0001", "empty_reference")]


def test_an_empty_text_file_says_that_nothing_is_said(tmp_path: Path) -> None:
    put(tmp_path / "hens.ogg")
    put(tmp_path / "hens.txt", "")
    assert find_clips(tmp_path)[0].reference == ""


def test_links_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a.wav")
    os.symlink(tmp_path / "real", tmp_path / "real" / "loop")
    root = tmp_path / "root"
    root.mkdir()
    os.symlink(tmp_path / "real", root / "here")
    assert [clip.name for clip in find_clips(root)] == ["a"]


def test_bundled_clips_come_by_the_same_reader() -> None:
    clips = bundled_clips()
    assert len(clips) >= 24 and len({clip.name for clip in clips}) == len(clips)
    assert all(clip.reference and clip.speaker and clip.path.is_file() for clip in clips)
    assert len({clip.speaker for clip in clips}) >= 6  # enough for a six-speaker mix


@needs_shared_data
def test_librispeech_itself() -> None:
    root = shared_data()
    assert root is not None
    clips = find_clips(root / "LibriSpeech" / "test-other")
    assert len(clips) == 50 and {clip.speaker for clip in clips} == {"1688", "1998", "2609", "3080", "367"}
    assert all(clip.reference and clip.reference.isupper() for clip in clips)


def test_audio_that_is_a_link_to_nothing_is_a_clip_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "lost.flac").symlink_to(tmp_path / "annex" / "never-fetched")
    (tmp_path / "lost.txt").symlink_to(tmp_path / "annex" / "nor-this")
    scan = scan_clips(tmp_path)
    assert [clip.name for clip in scan.clips] == ["lost"] and not scan.ignored
    with pytest.raises(AudioError, match="no such file") as raised:
        load_audio(scan.clips[0].path)
    assert raised.value.code == "missing"
