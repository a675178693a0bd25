"""The manifest fixes what was done: same inputs, same bytes; and what cannot be used is listed, not lost."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile

from empirical.speech import manifest as manifest_module
from empirical.speech.audio import AudioError, load_audio
from empirical.speech.clips import ClipError, find_clips, scan_clips
from empirical.speech.manifest import STRESSES, one_stress, samples_sha256, write_manifest
from empirical.speech.manifest_reading import read_manifest
from empirical.speech.manifest_records import ManifestError
from empirical.stress import StressError
from tests.helpers.shared_data import needs_shared_data, shared_data

RATE = 16_000


def speech(seed: int, seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    return (0.05 * np.sin(2 * np.pi * 2 * np.arange(n) / RATE) * rng.standard_normal(n)).astype(np.float32)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Seven speakers with two utterances each, LibriSpeech layout."""
    root = tmp_path / "corpus"
    for speaker in range(1, 8):
        folder = root / str(speaker) / "9"
        folder.mkdir(parents=True)
        lines = []
        for number in range(2):
            name = f"{speaker}-9-{number:04d}"
            scipy.io.wavfile.write(folder / f"{name}.wav", RATE, speech(10 * speaker + number))
            lines.append(f"{name} WORDS OF {speaker}\n")
        (folder / f"{speaker}-9.trans.txt").write_text("".join(lines))
    return root


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_stress_an_utterance_and_the_same_bytes_each_time(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus)
    summary = write_manifest(clips, None, 0, tmp_path / "a.jsonl")
    write_manifest(clips[::-1], None, 0, tmp_path / "b.jsonl")
    write_manifest(clips, None, 1, tmp_path / "c.jsonl")
    lines = read(tmp_path / "a.jsonl")
    assert (summary.lines, summary.quarantined, summary.quarantine) == (14, 0, None)
    assert [line["utterance"] for line in lines] == sorted(clip.name for clip in clips)
    assert all(line["stressor"] == one_stress(line["utterance"], 0) for line in lines)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert (tmp_path / "a.jsonl").read_bytes() != (tmp_path / "c.jsonl").read_bytes()
    assert str(tmp_path) not in (tmp_path / "a.jsonl").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl", "c.jsonl", "corpus"]


def test_every_condition_of_every_utterance_with_its_numbers(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus)[:3] + find_clips(corpus)[6:12]
    audio = tmp_path / "audio"
    write_manifest(clips, ("clean", "stretch", "mix", "noise"), 5, tmp_path / "m.jsonl", audio)
    lines = read(tmp_path / "m.jsonl")
    assert len(lines) == 4 * 9
    by_name = {clip.name: clip for clip in clips}
    for line in lines:
        clip = by_name[line["utterance"]]
        assert line["seed"] == 5 and line["truncated"] is False
        assert (line["speaker"], line["reference"]) == (clip.speaker, clip.reference)
        assert line["source_sha256"] == hashlib.sha256(clip.path.read_bytes()).hexdigest()
        written = load_audio(audio / line["audio"])
        assert samples_sha256(written) == line["result_sha256"] and len(written) == line["samples"]
        assert line["achieved"]["duration_s"] == len(written) / RATE
        if line["stressor"] == "noise":
            assert line["achieved"]["snr_db"] == pytest.approx(line["parameters"]["snr_db"], abs=1e-4)
        elif line["stressor"] == "stretch":
            assert line["achieved"]["rate"] == pytest.approx(3.5, abs=1 / RATE)
        elif line["stressor"] == "mix":
            # Speakers 1, 2 and 4 to 6: all there are, fewer than six.
            assert line["achieved"]["speakers"] == 5 and "short_pool" in line["notes"]
        else:
            np.testing.assert_array_equal(written, load_audio(clip.path))
    again = find_clips(audio)
    assert len(again) == 36 and all(clip.reference and clip.reference.startswith("WORDS OF") for clip in again)


def test_written_audio_is_the_same_bytes_each_time(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus)[:2]
    for name in ("one", "two"):
        write_manifest(clips, ("noise",), 0, tmp_path / f"{name}.jsonl", tmp_path / name)
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert len(first) == 4 and [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_choice_of_stress_is_near_uniform() -> None:
    count = collections.Counter(one_stress(f"utterance {number}", 0) for number in range(3000))
    # Binomial(3000, 1/3) has standard deviation 25.8; five of them.
    assert set(count) == set(STRESSES) and all(abs(each - 1000) < 129 for each in count.values())


def test_truncation_is_relative_to_the_window(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus)[:1]
    write_manifest(clips, ("clean", "stretch"), 0, tmp_path / "m.jsonl", window_s=3.0)
    assert [line["truncated"] for line in read(tmp_path / "m.jsonl")] == [False, True]
    write_manifest(clips, ("clean", "stretch"), 0, tmp_path / "m.jsonl", window_s=3.5)
    assert [line["truncated"] for line in read(tmp_path / "m.jsonl")] == [False, False]


def test_bad_files_are_quarantined_and_good_ones_kept(corpus: Path, tmp_path: Path) -> None:
    (corpus / "silent.wav").write_bytes((corpus / "1/9/1-9-0000.wav").read_bytes()[:58] + bytes(4 * RATE))
    (corpus / "junk.mp3").write_bytes(b"junk" * 100)
    (corpus / "twice.wav").write_bytes(b"x")
    (corpus / "2" / "twice.flac").write_bytes(b"x")
    scan = scan_clips(corpus)
    out = tmp_path / "m.jsonl"
    summary = write_manifest(scan.clips, ("noise",), 0, out, rejected=scan.rejected)
    refused = {(line["source"], line["code"]) for line in read(tmp_path / "m.jsonl.quarantine.jsonl")}
    assert refused == {
        ("silent.wav", "silent"),
        ("junk.mp3", "not_audio"),
        ("twice.wav", "duplicate_name"),
        ("twice.flac", "duplicate_name"),
    }
    assert summary.lines == len(read(out)) == 14 and summary.quarantined == 4
    text = (tmp_path / "m.jsonl.quarantine.jsonl").read_text()
    assert str(tmp_path) not in text and "twice: 2/twice.flac and twice.wav" in text
    write_manifest(find_clips(corpus / "1"), ("noise",), 0, out)
    assert not (tmp_path / "m.jsonl.quarantine.jsonl").exists()  # a stale one would speak of another run


def test_a_stress_that_fails_is_quarantined_by_its_name(corpus: Path, tmp_path: Path) -> None:
    summary = write_manifest(find_clips(corpus / "1"), ("mix", "noise"), 0, tmp_path / "m.jsonl")
    assert (summary.lines, summary.quarantined) == (2, 2) and summary.quarantine is not None
    assert {(line["stressor"], line["code"]) for line in read(summary.quarantine)} == {("mix", "pool_empty")}


def stopping_after(calls: int) -> Callable[[], None]:
    left = iter(range(calls - 1))

    def stop() -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    return stop


def test_what_could_not_be_measured_is_noted_and_stops_nothing(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = manifest_module.apply

    def apply(*arguments: Any, **named: Any) -> Any:
        result = real(*arguments, **named)
        return dataclasses.replace(result, achieved=result.achieved | {"snr_db": float("inf")})

    monkeypatch.setattr(manifest_module, "apply", apply)
    assert write_manifest(find_clips(corpus)[:2], ("noise",), 0, tmp_path / "m.jsonl").lines == 2
    for line in read(tmp_path / "m.jsonl"):
        assert "snr_db" not in line["achieved"] and "unmeasured:snr_db" in line["notes"]


def test_nothing_half_written_when_it_breaks_off_and_it_goes_on_from_there(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (corpus / "junk.mp3").write_bytes(b"junk" * 100)
    clips = find_clips(corpus)
    out, at_once = tmp_path / "out" / "m.jsonl", tmp_path / "once.jsonl"
    write_manifest(clips, ("noise",), 0, out)
    before = out.read_bytes()
    write_manifest(clips, ("noise", "stretch"), 1, at_once, tmp_path / "once")
    part = out.with_name("m.jsonl.part")
    with pytest.raises(KeyboardInterrupt):
        write_manifest(clips, ("noise", "stretch"), 1, out, tmp_path / "audio", progress=stopping_after(6))
    assert out.read_bytes() == before
    assert set(out.parent.iterdir()) == {out, out.with_name("m.jsonl.quarantine.jsonl"), part}
    with open(part, "ab") as file:  # as a power failure leaves it
        file.write(b'{"utterance": "half')
    done: list[str] = []
    load = load_audio
    monkeypatch.setattr(manifest_module, "load_audio", lambda path: (done.append(path.stem), load(path))[1])
    told: list[None] = []
    made = write_manifest(clips, ("noise", "stretch"), 1, out, tmp_path / "audio", progress=lambda: told.append(None))
    assert made.kept == 6 and done == [clip.name for clip in clips[6:]] and len(told) == len(clips) == 15
    assert made.previous == (previous := out.with_name("m.jsonl.previous")) and previous.read_bytes() == before
    assert out.read_bytes() == at_once.read_bytes() and not part.exists()
    assert made.quarantine is not None
    assert made.quarantine.read_bytes() == at_once.with_name("once.jsonl.quarantine.jsonl").read_bytes()
    first, second = (sorted((tmp_path / name).iterdir()) for name in ("once", "audio"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("change", ["seed", "clip", "audio", "nothing"])
def test_an_interrupted_build_is_begun_anew_where_something_changed(corpus: Path, tmp_path: Path, change: str) -> None:
    clips = find_clips(corpus)
    with pytest.raises(KeyboardInterrupt):
        write_manifest(clips, ("noise",), 1, tmp_path / "m.jsonl", tmp_path / "audio", progress=stopping_after(6))
    if change == "clip":
        scipy.io.wavfile.write(clips[9].path, RATE, speech(99, 1.1))
    elif change == "audio":
        sorted((tmp_path / "audio").glob("*.wav"))[2].unlink()
    seed = 2 if change == "seed" else 1
    made = write_manifest(find_clips(corpus), ("noise",), seed, tmp_path / "m.jsonl", tmp_path / "audio")
    assert made.kept == {"nothing": 6, "audio": 2}.get(change, 0)
    write_manifest(find_clips(corpus), ("noise",), seed, tmp_path / "once.jsonl", tmp_path / "once")
    assert (tmp_path / "m.jsonl").read_bytes() == (tmp_path / "once.jsonl").read_bytes()


def test_two_builds_of_one_manifest_do_not_meet(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus)
    refused: list[str] = []

    def another() -> None:
        with pytest.raises(ManifestError) as caught:
            write_manifest(clips, ("noise",), 1, tmp_path / "m.jsonl")
        refused.append(caught.value.code)

    assert write_manifest(clips[:2], ("noise",), 0, tmp_path / "m.jsonl", progress=another).lines == 2
    assert refused == ["busy", "busy"]


def test_the_same_manifest_again_replaces_nothing_and_another_is_kept(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus)[:2]
    out = tmp_path / "m.jsonl"
    assert [write_manifest(clips, ("noise",), 0, out).previous for _ in range(2)] == [None, None]
    first = out.read_bytes()
    previous = write_manifest(clips, ("noise",), 1, out).previous
    assert previous is not None and previous.read_bytes() == first != out.read_bytes()


def test_one_of_the_named_stresses_by_seed(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus)
    ladder = ("noise:snr_db=10/0/-10",)
    write_manifest(clips, ladder, 0, tmp_path / "one.jsonl", stresses="one")
    write_manifest(clips, ladder, 0, tmp_path / "all.jsonl")
    one, every = read(tmp_path / "one.jsonl"), read(tmp_path / "all.jsonl")
    assert len(one) == 14 and len(every) == 3 * 14
    assert {line["condition"] for line in one} == {"noise:snr_db=10", "noise", "noise:snr_db=-10"}
    numbered = ("line", "lines")
    of_all = {(line["utterance"], line["condition"]): line for line in every}
    for line in one:
        same = of_all[line["utterance"], line["condition"]]
        assert {k: v for k, v in line.items() if k not in numbered} == {
            k: v for k, v in same.items() if k not in numbered
        }
    write_manifest(clips, None, 0, tmp_path / "three.jsonl", stresses="all")
    write_manifest(clips, STRESSES, 0, tmp_path / "named.jsonl")
    assert (tmp_path / "three.jsonl").read_bytes() == (tmp_path / "named.jsonl").read_bytes()


def test_files_of_any_condition_have_names_of_their_own(corpus: Path, tmp_path: Path) -> None:
    conditions = ("noise:snr_db=5/-5", "noise:kind=pink", "silence", "stretch:rate=2+noise")
    write_manifest(find_clips(corpus)[:2], conditions, 0, tmp_path / "m.jsonl", tmp_path / "audio")
    lines = read(tmp_path / "m.jsonl")
    assert len({line["audio"] for line in lines}) == len(lines) == 10
    assert not any(set(line["audio"]) & set(':/\\*?"<>| ') for line in lines)
    by_name = {clip.path.name: clip for clip in find_clips(tmp_path / "audio")}
    for line in lines:
        assert (by_name[line["audio"]].reference == "") is (line["condition"] == "silence") is (not line["speech"])


def test_wrong_arguments_are_refused(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus / "1")
    with pytest.raises(ValueError, match="seed must be at least 0; got -1"):
        write_manifest(clips, None, -1, tmp_path / "m.jsonl")
    with pytest.raises(StressError, match="got 'echo'"):
        write_manifest(clips, ("echo",), 0, tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match="at least one stressor"):
        write_manifest(clips, (), 0, tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match="stresses must be one or all; got 'two'"):
        write_manifest(clips, None, 0, tmp_path / "m.jsonl", stresses="two")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="window_s must be positive"):
        write_manifest(clips, None, 0, tmp_path / "m.jsonl", window_s=0)
    with pytest.raises(ValueError, match="must be a file to write"):
        write_manifest(clips, None, 0, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus"]


def test_audio_of_a_clip_with_a_very_long_name_is_written_under_a_shorter_one(tmp_path):
    name = "L" * 240
    source = tmp_path / "in" / f"{name}.wav"
    source.parent.mkdir()
    scipy.io.wavfile.write(source, 16_000, speech(0).astype("<f4"))
    made = write_manifest(find_clips(source.parent), ("noise",), 0, tmp_path / "m.jsonl", tmp_path / "audio")
    (line,) = [json.loads(text) for text in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert (made.lines, made.quarantined) == (1, 0)
    assert line["utterance"] == name
    assert (tmp_path / "audio" / line["audio"]).is_file()


@needs_shared_data
@pytest.mark.parametrize("folder", ["bad_input", "odd_speech", "non_speech"])
def test_every_file_of_a_hostile_folder_is_a_line_or_has_a_reason(tmp_path: Path, folder: str) -> None:
    data = shared_data()
    assert data is not None
    scan = scan_clips(data / folder)
    made = write_manifest(scan.clips, ("noise",), 0, tmp_path / "m.jsonl", rejected=scan.rejected)
    refused = [] if made.quarantine is None else read(made.quarantine)
    assert made.lines + made.quarantined == len(scan.clips) + len(scan.rejected)
    assert all(line["code"] in {**AudioError.CODES, **ClipError.CODES, **StressError.CODES} for line in refused)
    known = {line.utterance for line in read_manifest(tmp_path / "m.jsonl").lines}
    assert known | {line["utterance"] for line in refused} == {one.name for one in (*scan.clips, *scan.rejected)}
