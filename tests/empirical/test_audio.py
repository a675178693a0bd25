"""The audio gate: what loads loads exactly, and whatever else comes ends in an AudioError with a documented code."""

from __future__ import annotations

import math
import pickle
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile

from empirical.speech.audio import MIN_SAMPLES, SAMPLE_RATE_HZ, AudioError, inspect_audio, load_audio
from tests.helpers.shared_data import needs_shared_data, shared_data

RATE = SAMPLE_RATE_HZ


def voice(seconds: float = 1.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """(n,) float64: noise under a slow envelope, peaky like speech."""
    rng = np.random.default_rng(seed)
    n = int(seconds * rate)
    envelope = 0.5 + 0.5 * np.sin(2 * np.pi * 3 * np.arange(n) / rate)
    return 0.1 * envelope * rng.standard_normal(n)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def code_of(path: Path, **options: float) -> str:
    with pytest.raises(AudioError) as caught:
        load_audio(path, **options)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.path == path
    return caught.value.code


def with_flac_length(data: bytes, frames: int) -> bytes:
    """The same FLAC stream with another total of samples in STREAMINFO (36 bits from byte 21's lower half)."""
    out = bytearray(data)
    out[21] = (out[21] & 0xF0) | (frames >> 32)
    out[22:26] = (frames & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(out)


def test_float_wav_at_16_khz_comes_back_bit_for_bit(tmp_path: Path) -> None:
    x = voice().astype(np.float32)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, x)
    y = load_audio(tmp_path / "a.wav")
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
def test_resampling_keeps_duration_level_and_pitch(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(1.0, rate), rate, subtype="FLOAT")
    y = load_audio(tmp_path / "a.wav")
    assert abs(len(y) - RATE) <= 1
    middle = y[2000:14_000]
    # Away from the ends soxr's pass band is flat to much better than 1e-3; 440 Hz lies inside every one of these.
    assert math.isclose(float(np.sqrt(np.mean(middle**2))), 0.3 / math.sqrt(2), rel_tol=1e-3)
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert abs(np.argmax(spectrum) * RATE / len(middle) - 440) <= RATE / len(middle)


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = voice(seed=1).astype(np.float32), voice(seed=2).astype(np.float32)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, np.stack([left, right], axis=1))
    expected = (left.astype(np.float64) + right) / 2
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.flac", {}),
        ("a.ogg", {}),
        ("a.mp3", {}),
        ("a.aiff", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("a.wav", {"subtype": "PCM_24"}),
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "ULAW"}),
    ],
)
def test_formats_load_the_same_each_time(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    path = tmp_path / name
    soundfile.write(path, voice(2.0), RATE, subtype=options.get("subtype"), format=options.get("format"))
    first, second = load_audio(path), load_audio(path)
    np.testing.assert_array_equal(first, second)
    assert abs(len(first) - 2 * RATE) <= 1152
    assert 0.5 < np.std(first) / np.std(voice(2.0)) < 1.5


def test_inspect_reads_the_header_alone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.stack([voice(1.5, 8000)] * 2, axis=1), 8000)
    info = inspect_audio(tmp_path / "a.flac")
    assert (info.container, info.encoding, info.sample_rate_hz, info.channels) == ("FLAC", "PCM_16", 8000, 2)
    assert info.frames == 12_000 and info.duration_s == 1.5


def test_missing_directory_and_empty_file(tmp_path: Path) -> None:
    assert code_of(tmp_path / "none.wav") == "missing"
    assert code_of(tmp_path) == "not_a_file"
    (tmp_path / "a.wav").write_bytes(b"")
    assert code_of(tmp_path / "a.wav") == "empty"
    assert code_of(Path("a\0.wav")) == "missing"


def test_header_without_samples_is_empty(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "a.aiff", np.zeros(0), RATE)
    assert code_of(tmp_path / "a.wav") == "empty"
    assert code_of(tmp_path / "a.aiff") == "empty"


@pytest.mark.parametrize("content", [b"not audio at all\n" * 100, b"RIFF", b"fLaC" + bytes(50), b"OggS" + bytes(200)])
def test_other_bytes_are_not_audio(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert code_of(tmp_path / "a.wav") == "not_audio"


def test_one_frame_is_the_least(tmp_path: Path) -> None:
    x = voice().astype(np.float32)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, x[: MIN_SAMPLES - 1])
    scipy.io.wavfile.write(tmp_path / "b.wav", RATE, x[:MIN_SAMPLES])
    assert code_of(tmp_path / "a.wav") == "too_short"
    assert len(load_audio(tmp_path / "b.wav")) == MIN_SAMPLES


@pytest.mark.parametrize("offset", [0.0, 0.25])
def test_silence_with_or_without_offset(tmp_path: Path, offset: float) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, np.full(RATE, offset, np.float32))
    assert code_of(tmp_path / "a.wav") == "silent"


def test_quiet_sound_is_not_silence(tmp_path: Path) -> None:
    x = np.zeros(RATE, np.float32)
    x[5000:5100] = 2.0**-15  # one step of 16-bit PCM
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, x)
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_non_finite_sample_is_fatal(tmp_path: Path, bad: float) -> None:
    x = voice(6.0).astype(np.float32)
    x[-7] = bad  # in the last block, behind good ones
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, x)
    assert code_of(tmp_path / "a.wav") == "non_finite"


def test_antiphase_stereo_is_refused_and_a_weak_copy_is_not(tmp_path: Path) -> None:
    x = voice()
    soundfile.write(tmp_path / "a.wav", np.stack([x, -x], axis=1), RATE)
    soundfile.write(tmp_path / "b.wav", np.stack([x, -0.9 * x], axis=1), RATE)
    soundfile.write(tmp_path / "c.wav", np.stack([x, 0 * x], axis=1), RATE)
    assert code_of(tmp_path / "a.wav") == "antiphase"
    assert len(load_audio(tmp_path / "b.wav")) == len(load_audio(tmp_path / "c.wav")) == RATE


def test_heavy_clipping_is_refused_and_loud_sound_is_not(tmp_path: Path) -> None:
    x = voice(3.0)
    loud = x / np.abs(x).max()
    soundfile.write(tmp_path / "loud.wav", loud, RATE)
    soundfile.write(tmp_path / "touch.wav", np.clip(1.3 * loud, -1, 1), RATE)
    soundfile.write(tmp_path / "tone.wav", tone(3.0, RATE) / 0.3, RATE)
    soundfile.write(tmp_path / "clipped.wav", np.clip(20 * loud, -1, 1), RATE)
    soundfile.write(tmp_path / "lowered.wav", 0.5 * np.clip(20 * loud, -1, 1), RATE)
    for name in ("loud", "touch", "tone"):
        assert len(load_audio(tmp_path / f"{name}.wav")) == 3 * RATE
    assert code_of(tmp_path / "clipped.wav") == "clipped"
    assert code_of(tmp_path / "lowered.wav") == "clipped"


def test_integers_written_as_floats_are_out_of_range(tmp_path: Path) -> None:
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, (voice() * 32768).astype(np.float32))
    assert code_of(tmp_path / "a.wav") == "out_of_range"


def test_float_over_full_scale_keeps_its_level(tmp_path: Path) -> None:
    x = (voice() * 10).astype(np.float32)
    scipy.io.wavfile.write(tmp_path / "a.wav", RATE, x)
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), x)


@pytest.mark.parametrize("share", [0.4, 0.5, 0.97])
@pytest.mark.parametrize("suffix", ["wav", "flac", "aiff", "mp3", "ogg"])
def test_a_cut_file_is_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, voice(8.0), RATE)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert code_of(path) == "truncated"


def test_header_alone_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(), RATE)
    path.write_bytes(path.read_bytes()[:44])
    assert code_of(path) == "truncated"


def test_flac_that_understates_its_length_is_truncated(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, voice(3.0), RATE)
    data = path.read_bytes()
    assert len(soundfile.read(path)[0]) == 3 * RATE
    path.write_bytes(with_flac_length(data, 2 * RATE))
    assert len(soundfile.read(path)[0]) == 2 * RATE  # the trap: no error, and a second is gone
    assert code_of(path) == "truncated"


def test_flac_of_unknown_length_loads_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, voice(5.0), RATE)
    whole = load_audio(path)
    path.write_bytes(with_flac_length(path.read_bytes(), 0))
    assert soundfile.info(path).frames == 2**63 - 1  # the trap
    np.testing.assert_array_equal(load_audio(path), whole)
    assert math.isnan(inspect_audio(path).duration_s)
    assert code_of(path, max_duration_s=4.0) == "too_long"


def test_id3_tags_around_a_flac_are_no_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, voice(3.0), RATE)
    whole = load_audio(path)
    path.write_bytes(path.read_bytes() + b"TAG" + bytes(125))
    np.testing.assert_array_equal(load_audio(path), whole)


def test_ten_hours_are_refused_by_the_header(tmp_path: Path) -> None:
    frames = 10 * 3600 * RATE
    flac = tmp_path / "a.flac"
    soundfile.write(flac, voice(), RATE)
    flac.write_bytes(with_flac_length(flac.read_bytes(), frames))
    wav = tmp_path / "a.wav"
    soundfile.write(wav, voice(), RATE)
    head = bytearray(wav.read_bytes()[:44])
    head[4:8], head[40:44] = struct.pack("<I", 2 * frames + 36), struct.pack("<I", 2 * frames)
    wav.write_bytes(head)
    with open(wav, "r+b") as file:
        file.truncate(44 + 2 * frames)  # sparse: ten hours of zeros that take no space
    short = tmp_path / "b.wav"
    short.write_bytes(head)  # the claim alone
    start = time.perf_counter()
    assert code_of(flac) == code_of(wav) == code_of(short) == "too_long"
    # Decoding ten hours takes several seconds on any machine; headers take microseconds.
    assert time.perf_counter() - start < 1.0


def test_wav_written_to_a_pipe_loads(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(), RATE, subtype="PCM_16")
    whole = load_audio(path)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    np.testing.assert_array_equal(load_audio(path), whole)


def test_absurd_sample_rate_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, voice(), RATE)
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", 2_000_000_000)
    path.write_bytes(data)
    assert code_of(path) == "bad_sample_rate"


def test_unknown_code_cannot_be_raised_and_errors_pickle() -> None:
    with pytest.raises(KeyError, match=r"AudioError\.CODES"):
        AudioError("nonsense", Path("a"), "b")
    again = pickle.loads(pickle.dumps(AudioError("silent", Path("a"), "b")))
    assert (again.code, again.path, again.detail, str(again)) == ("silent", Path("a"), "b", "a: b [silent]")
    with pytest.raises(ValueError, match="max_duration_s must be positive; got 0"):
        load_audio("a.wav", max_duration_s=0)


def outcome(path: Path) -> str:
    """ "loads", or the code; any other exception fails the test that calls this."""
    try:
        samples = load_audio(path)
    except AudioError as error:
        return error.code if error.detail else "no detail"
    assert samples.dtype == np.float32 and samples.ndim == 1 and len(samples) >= MIN_SAMPLES
    assert np.isfinite(samples).all()
    return "loads"


@needs_shared_data
@pytest.mark.parametrize(("folder", "files"), [("bad_input", 123), ("odd_speech", 8), ("non_speech", 13)])
def test_every_shared_file_loads_or_gives_a_code(folder: str, files: int, capfd: pytest.CaptureFixture[str]) -> None:
    root = shared_data()
    assert root is not None
    paths = [path for path in sorted((root / folder).rglob("*")) if path.is_file() and path.name != "SOURCES.tsv"]
    assert len(paths) == files
    outcomes = {path.name: outcome(path) for path in paths}
    assert set(outcomes.values()) <= {"loads", *AudioError.CODES}
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == ""  # libmpg123's chatter is not our user's
    if folder == "odd_speech":
        assert set(outcomes.values()) == {"loads"}
    if folder == "bad_input":
        assert outcomes["faulty_05_-_wrong_total_number_of_samples.flac"] == "truncated"
        assert outcomes["tests_samples_empty_file.mp3"] == "empty"
        assert outcomes["data_8k-1ch-1s-silence.aif"] == "silent"
        assert outcomes["testing.m4a"] == "not_audio"
        assert outcomes["data_bad-xing.mp3"] == "truncated"
        assert outcomes["pop.wav"] == "too_short"
        assert outcomes["subset_41_-_6_channels_5.1_.flac"] == "loads"


@needs_shared_data
def test_every_librispeech_clip_passes_the_gate() -> None:
    root = shared_data()
    assert root is not None
    paths = sorted((root / "LibriSpeech" / "test-other").rglob("*.flac"))
    assert paths and {outcome(path) for path in paths} == {"loads"}
