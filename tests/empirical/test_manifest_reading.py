"""A manifest is read whole or refused in one line that says why; its samples are remade to the byte, or refused."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io.wavfile

from empirical.speech import samples as samples_module
from empirical.speech.audio import load_audio
from empirical.speech.clips import ClipError, find_clips
from empirical.speech.manifest import write_manifest
from empirical.speech.manifest_checking import check_manifest
from empirical.speech.manifest_reading import Manifest, manifest_samples, read_manifest
from empirical.speech.manifest_records import SCHEMA_VERSION, ManifestError, samples_sha256
from empirical.speech.manifest_schema import KEYWORDS, manifest_schema, violation
from empirical.speech.samples import Sample, make_sample, noise_pool, sound_pool

RATE = 16_000
MIXED = ("mix", "noise:kind=babble")
CONDITIONS = ("clean", "stretch:rate=2", "noise", "noise:kind=folder", "reverberation+noise:snr_db=5", *MIXED)
LINES = 4 * len(CONDITIONS)


def speech(seed: int, seconds: float = 0.4) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = int(seconds * RATE)
    return (0.05 * np.sin(2 * np.pi * 2 * np.arange(n) / RATE) * rng.standard_normal(n)).astype(np.float32)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four speakers of one utterance, two noises, and a manifest of every condition; nothing is written to it."""
    root = tmp_path_factory.mktemp("manifest")
    for speaker in range(1, 5):
        folder = root / "corpus" / str(speaker) / "9"
        folder.mkdir(parents=True)
        scipy.io.wavfile.write(folder / f"{speaker}-9-0000.wav", RATE, speech(speaker))
        (folder / f"{speaker}-9.trans.txt").write_text(f"{speaker}-9-0000 WORDS OF {speaker}\n")
    (root / "noises" / "inner").mkdir(parents=True)
    scipy.io.wavfile.write(root / "noises" / "hum.wav", RATE, speech(20, 1.0))
    scipy.io.wavfile.write(root / "noises" / "inner" / "hum.wav", RATE, speech(21, 0.2))
    write_manifest(find_clips(root / "corpus"), CONDITIONS, 7, root / "m.jsonl", noise_dir=root / "noises")
    return root


@pytest.fixture
def manifest(place: Path) -> Manifest:
    return read_manifest(place / "m.jsonl")


def rows(place: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (place / "m.jsonl").read_text(encoding="utf-8").splitlines()]


def written(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines), encoding="utf-8")
    return path


def test_what_was_written_is_read(place: Path, manifest: Manifest) -> None:
    assert manifest.sha256 == hashlib.sha256((place / "m.jsonl").read_bytes()).hexdigest()
    assert len(manifest.lines) == LINES
    for line, row in zip(manifest.lines, rows(place), strict=True):
        for name, value in dataclasses.asdict(line).items():
            assert (list(value) if name == "notes" else value) == row[name]
    assert set(manifest.versions) >= {"spi", "numpy", "scipy", "soundfile", "soxr"}


def test_the_schema_shipped_is_what_is_written_and_is_understood_wholly(place: Path) -> None:
    schema = manifest_schema()
    for row in rows(place):
        assert violation(row, schema) == ""
        assert set(row) == set(schema["properties"]) == set(schema["required"])
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION

    def keywords(part: dict[str, Any]) -> set[str]:
        inner = [*part.get("properties", {}).values(), part.get("items"), part.get("additionalProperties")]
        return set(part).union(*(keywords(each) for each in inner if isinstance(each, dict)))

    assert keywords(schema) - {"$schema", "title", "description"} <= KEYWORDS


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("seed", -1, "seed must be at least 0; got -1"),
        ("seed", True, "seed must be integer; got true"),
        ("seed", 1.5, "seed must be integer; got 1.5"),
        ("samples", "many", 'samples must be integer; got "many"'),
        ("achieved", {"snr_db": "loud"}, 'snr_db must be number; got "loud"'),
        ("notes", [1], r"notes\[0\] must be string; got 1"),
        ("window_s", 0, "window_s must be above 0; got 0"),
        ("result_sha256", "abc", "result_sha256 must match"),
        ("speaker", 3, "speaker must be string or null; got 3"),
        ("utterance", "", "utterance must not be empty"),
        ("versions", {}, "versions must not be empty"),
        ("sample_rate_hz", 8000, "sample_rate_hz must be 16000; got 8000"),
        ("condition", "noise:snr_db=0.0", "condition must be canonical, noise; got noise:snr_db=0.0"),
        ("stressor", "mix", "stressor must be "),
        ("lines", 3, f"lines must be {LINES} as in line 1; got 3"),
        ("taste", "sweet", 'must have no field "taste"'),
    ],
)
def test_a_line_with_a_wrong_field_is_named(place: Path, tmp_path: Path, field: str, value: Any, rule: str) -> None:
    lines = rows(place)
    lines[1][field] = value
    with pytest.raises(ManifestError, match=rule) as caught:
        read_manifest(written(tmp_path / "m.jsonl", lines))
    assert caught.value.code == "bad_line" and "line 2: " in caught.value.message
    assert "\n" not in str(caught.value)


def without(name: str) -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return lambda lines: [{key: value for key, value in line.items() if key != name} for line in lines]


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("bad_line", without("achieved")),
        ("other_version", without("schema_version")),
        ("other_version", lambda lines: [line | {"schema_version": 3} for line in lines]),
        ("cut", lambda lines: lines[:-1]),
        ("cut", lambda lines: lines[1:]),
        ("cut", lambda lines: lines[:3] + lines[4:]),
        ("cut", lambda lines: []),
        ("duplicate", lambda lines: [*lines[:-1], lines[0] | {"line": len(lines)}]),
        ("unknown_stressor", lambda lines: [line | {"condition": "echo", "stressor": "echo"} for line in lines]),
        ("unknown_stressor", lambda lines: [line | {"condition": "noise:colour=red"} for line in lines]),
        ("not_a_manifest", lambda lines: [{"audio": "a.wav", "text": "words"}]),
        ("not_a_manifest", lambda lines: [[1, 2]]),
    ],
)
def test_another_manifest_is_refused_in_a_line(place: Path, tmp_path: Path, code: str, change: Any) -> None:
    with pytest.raises(ManifestError) as caught:
        read_manifest(written(tmp_path / "m.jsonl", change(rows(place))))
    assert caught.value.code == code and str(tmp_path / "m.jsonl") in caught.value.message
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_manifest_cut_anywhere_says_so(place: Path, tmp_path: Path, share: float) -> None:
    whole = (place / "m.jsonl").read_bytes()
    (tmp_path / "m.jsonl").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "m.jsonl")
    assert caught.value.code == "cut"


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"fLaC" + bytes(999), b"[" * 100_000, b'{"achieved": NaN}\n', b"line\n" * 9],
    ids=["no_utf8", "flac", "deep", "nan", "text"],
)
def test_any_other_file_is_no_manifest(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(tmp_path / "m")
    assert caught.value.code == "not_a_manifest"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.jsonl"):
        with pytest.raises(ManifestError) as caught:
            read_manifest(path)
        assert caught.value.code == "unreadable" and str(path) in caught.value.message


def test_samples_are_every_line_and_the_clean_one_of_each_utterance(place: Path, tmp_path: Path) -> None:
    clips = find_clips(place / "corpus")
    write_manifest(clips, ("noise", "stretch"), 1, tmp_path / "m.jsonl")
    known = read_manifest(tmp_path / "m.jsonl")
    samples, refused = manifest_samples(known, clips[1:])
    assert [(one.clip.name, one.condition) for one in samples] == [
        (clip.name, condition) for clip in clips[1:] for condition in ("clean", "stretch", "noise")
    ]
    assert {(one.utterance, one.condition, one.code) for one in refused} == {
        (clips[0].name, condition, "absent_audio") for condition in ("clean", "stretch", "noise")
    }
    for sample in samples:
        assert sample.seed == 1 and sample.clip.reference and pickle.loads(pickle.dumps(sample)) == sample
    lost = [dataclasses.replace(clip, reference=None, speaker=None) for clip in clips]
    assert manifest_samples(known, lost)[0][-3:] == manifest_samples(known, clips)[0][-3:]


def test_remade_samples_are_the_same_to_the_byte(place: Path, manifest: Manifest) -> None:
    clips = find_clips(place / "corpus")
    found = check_manifest(manifest, clips, noises=noise_pool(place / "noises"))
    assert (found.lines, found.same, found.refused) == (LINES, LINES, ())
    by_seed = Sample(clips[0], "mix", 7)
    (line,) = [one for one in manifest.lines if (one.utterance, one.condition) == (clips[0].name, "mix")]
    assert samples_sha256(make_sample(by_seed, pool=sound_pool(clips)).samples) == line.result_sha256


def test_a_changed_source_is_refused_under_every_condition(place: Path, tmp_path: Path, manifest: Manifest) -> None:
    clips = find_clips(place / "corpus")
    changed = tmp_path / clips[0].path.name
    scipy.io.wavfile.write(changed, RATE, load_audio(clips[0].path)[::-1])
    clips[0] = dataclasses.replace(clips[0], path=changed)
    found = check_manifest(manifest, clips, noises=noise_pool(place / "noises"))
    codes = {(one.utterance, one.condition): one.code for one in found.refused}
    own = {condition: code for (utterance, condition), code in codes.items() if utterance == clips[0].name}
    assert set(own.values()) == {"changed_source"} and len(own) == len(CONDITIONS)
    # What the others are mixed with holds the changed clip: four speakers are all there are.
    others = {key: code for key, code in codes.items() if key[0] != clips[0].name}
    assert others == {(clip.name, condition): "changed_result" for clip in clips[1:] for condition in MIXED}
    assert all("what was mixed in does" in one.detail for one in found.refused if one.code == "changed_result")


def test_a_clean_sample_beside_a_manifest_is_checked_against_its_source(place: Path, tmp_path: Path) -> None:
    clips = find_clips(place / "corpus")
    write_manifest(clips, ("noise",), 1, tmp_path / "m.jsonl")
    (clean, _), _ = manifest_samples(read_manifest(tmp_path / "m.jsonl"), clips[:1])[0][:2], None
    np.testing.assert_array_equal(make_sample(clean).samples, load_audio(clips[0].path))
    other = dataclasses.replace(clean, clip=dataclasses.replace(clean.clip, path=clips[1].path))
    with pytest.raises(ManifestError) as caught:
        make_sample(other)
    assert caught.value.code == "changed_source"


def test_another_result_says_whether_versions_differ(place: Path, manifest: Manifest) -> None:
    clips = find_clips(place / "corpus")
    samples, _ = manifest_samples(manifest, clips)
    (noise,) = [one for one in samples if (one.clip.name, one.condition) == (clips[0].name, "noise")]
    assert noise.recorded is not None
    wrong = dataclasses.replace(noise.recorded, result_sha256="0" * 64)
    with pytest.raises(ManifestError, match="versions do not differ") as caught:
        make_sample(dataclasses.replace(noise, recorded=wrong))
    assert caught.value.code == "changed_result"
    wrong = dataclasses.replace(wrong, versions=dict(wrong.versions) | {"numpy": "1.0.0"})
    with pytest.raises(ManifestError, match=r"numpy .* here and 1\.0\.0 there"):
        make_sample(dataclasses.replace(noise, recorded=wrong))


def test_a_noise_pool_names_files_by_their_place(place: Path, tmp_path: Path) -> None:
    (tmp_path / ".hidden").mkdir()
    scipy.io.wavfile.write(tmp_path / ".hidden" / "a.wav", RATE, speech(0))
    with pytest.raises(ClipError, match="no_audio"):
        noise_pool(tmp_path)
    with pytest.raises(ClipError, match="missing"):
        noise_pool(tmp_path / "absent")
    assert [noise.name for noise in noise_pool(place / "noises")] == ["hum.wav", "inner/hum.wav"]


def test_a_pool_keeps_what_was_asked_for_last_within_its_bytes(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = find_clips(place / "corpus")
    loaded: list[str] = []

    def load(path: Path) -> np.ndarray:
        loaded.append(path.stem)
        return load_audio(path)

    monkeypatch.setattr(samples_module, "load_audio", load)
    monkeypatch.setattr(samples_module, "CACHE_BYTES", 2 * 4 * len(speech(0)))  # two clips
    first, second, third, _ = sound_pool(clips)
    for one in (first, second, first, third, first, second):
        samples = one.load()
        with pytest.raises(ValueError, match="read-only"):
            samples[0] = 1
    assert loaded == [first.name, second.name, third.name, second.name]
