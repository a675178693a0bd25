"""The manifest fixes what was done: same inputs, same bytes; and what cannot be used is listed, not lost."""

from __future__ import annotations

import collections
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile

from empirical.speech.audio import load_audio
from empirical.speech.clips import find_clips, scan_clips
from empirical.speech.manifest import STRESSES, one_stress, samples_sha256, write_manifest
from empirical.stress import StressError

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


def test_nothing_half_written_when_it_breaks_off(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "m.jsonl"
    write_manifest(find_clips(corpus), ("noise",), 0, out)
    before = out.read_bytes()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(find_clips(corpus), ("noise",), 1, out, progress=stop)
    assert out.read_bytes() == before and list(out.parent.iterdir()) == [out]


def test_wrong_arguments_are_refused(corpus: Path, tmp_path: Path) -> None:
    clips = find_clips(corpus / "1")
    with pytest.raises(ValueError, match="seed must be at least 0; got -1"):
        write_manifest(clips, None, -1, tmp_path / "m.jsonl")
    with pytest.raises(StressError, match="got 'echo'"):
        write_manifest(clips, ("echo",), 0, tmp_path / "m.jsonl")
    with pytest.raises(ValueError, match="at least one stressor"):
        write_manifest(clips, (), 0, tmp_path / "m.jsonl")
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
