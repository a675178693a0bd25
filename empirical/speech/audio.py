"""The audio gate: a file becomes 16 kHz mono float32 samples, or an `AudioError` that says why not.

Nothing is trusted to the file's header, and nothing is believed of the decoder's silence: soundfile reads a truncated
WAV short without an error, a FLAC whose header understates its length likewise, and a FLAC of unknown length as
2^63 - 1 frames. Decoding goes block by block, so memory is bounded by the output (4 bytes x 16,000 x seconds).
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soundfile
import soxr

from empirical.errors import CodedError
from empirical.speech import containers

SAMPLE_RATE_HZ = 16_000
"""Rate of every array of samples in this package, samples per second; Whisper's own."""

MIN_SAMPLES = 400
"""One 25 ms analysis frame of Whisper's log-mel, at 16 kHz."""

MAX_DURATION_S = 1800.0
"""Longest file that is decoded by default, seconds."""

SILENCE_RANGE = 2.0**-16
"""Largest peak-to-peak value that is silence: half a step of 16-bit PCM (full scale is -1..1)."""

ANTIPHASE_RATIO = 0.01
"""The average of the channels cancels if its r.m.s. is below this share (-40 dB) of the loudest channel's."""

CLIPPED_SHARE = 0.05
"""Share of samples on flat tops from which a file counts as heavily clipped.

Of 137 LibriSpeech clips the most flat-topped has 0.0025; speech driven 12 dB over full scale has 0.05 in the median,
18 dB over 0.16. A flat top is a run of at least three samples within 1e-4 of the block's peak (itself above 0.1 of full
scale): a sine spends 0.9 % of its time there, a clipped wave much more. Clipping that was resampled or coded since
is rounded off and not seen.
"""

MAX_PEAK = 16.0
"""Largest |sample|, as a multiple of full scale (24 dB over); more is a file of other units, not loud audio."""

_RATE_LIMITS_HZ = (1_000, 1_000_000)
_BLOCK_VALUES = 1 << 16
_MP3_SLACK_FRAMES = 2 * 1152  # two MPEG frames: encoder delay and padding are counted differently by encoders
_UNKNOWN_FRAMES = 1 << 62  # libsndfile says 2^63 - 1 where the header does not say


class AudioError(CodedError, ValueError):
    """A file that is not usable audio.

    Attributes:
        code: one of `CODES`.
        path: the file.
        detail: what was found, in words, without the path.
    """

    CODES = MappingProxyType(
        {
            "missing": "no such file",
            "not_a_file": "a directory or another thing that is not a regular file",
            "unreadable": "the system refuses to read the file",
            "empty": "no bytes, or a header with no samples",
            "not_audio": "not a format that libsndfile decodes, or its content does not decode",
            "bad_sample_rate": "a sample rate outside 1 kHz to 1 MHz",
            "too_long": "longer than the limit (by the header where it says, else by decoding up to the limit)",
            "truncated": "cut or damaged: the header promises another number of samples than can be decoded",
            "non_finite": "NaN or infinite samples",
            "too_short": "less than one 25 ms frame",
            "silent": "no variation above half a step of 16-bit PCM in any channel",
            "antiphase": "channels that cancel when they are averaged",
            "out_of_range": "samples more than 24 dB over full scale",
            "clipped": "more than 5 % of the samples lie on flat tops",
        }
    )

    def __init__(self, code: str, path: Path, detail: str) -> None:
        super().__init__(code, f"{path}: {detail}")
        self.path = path
        self.detail = detail

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, Path, str]]:
        return (type(self), (self.code, self.path, self.detail))


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says, unchecked against its content.

    Attributes:
        path: the file.
        container: libsndfile's name of the format, "WAV" or "FLAC" say.
        encoding: libsndfile's name of the subtype, "PCM_16" say.
        sample_rate_hz: samples per second and channel.
        channels: number of channels.
        frames: samples per channel, or None where the header does not say.
    """

    path: Path
    container: str
    encoding: str
    sample_rate_hz: int
    channels: int
    frames: int | None

    @property
    def duration_s(self) -> float:
        """Duration in seconds; NaN where the header does not say."""
        return math.nan if self.frames is None else self.frames / self.sample_rate_hz


def inspect_audio(path: str | Path) -> AudioInfo:
    """Read the header of an audio file, and nothing else.

    Raises:
        AudioError: "missing", "not_a_file", "unreadable", "empty", "not_audio" or "bad_sample_rate".
    """
    path = Path(path)
    _check_regular(path)
    with _quiet_decoder(), _open(path) as sound:
        return _info(path, sound)


def load_audio(path: str | Path, *, max_duration_s: float = MAX_DURATION_S) -> np.ndarray:
    """Decode a file to mono samples at 16 kHz.

    Channels are averaged, other rates resampled by soxr ("HQ"); nothing else is done to the samples, so a float file
    keeps its level. The same file gives the same bits at every call.

    Args:
        path: a file of any format that libsndfile decodes (WAV, FLAC, Ogg Vorbis and Opus, MP3, AIFF, AU, CAF, ...).
        max_duration_s: longest duration that is decoded, seconds.

    Returns:
        (n,) float32, full scale -1..1, finite, n >= 400.

    Raises:
        AudioError: with one of `AudioError.CODES`; never another exception for whatever the file holds.
        ValueError: if `max_duration_s` is not positive.
    """
    if not max_duration_s > 0:
        raise ValueError(f"max_duration_s must be positive; got {max_duration_s}")
    path = Path(path)
    _check_regular(path)
    with _quiet_decoder(), _open(path) as sound:
        info = _info(path, sound)
        claimed = _claimed_frames(path, info)
        limit = int(max_duration_s * info.sample_rate_hz)
        if claimed is not None and claimed > limit:
            seconds = claimed / info.sample_rate_hz
            raise AudioError("too_long", path, f"{seconds:.0f} s by its header, the limit is {max_duration_s:g} s")
        if claimed == 0:
            raise AudioError("empty", path, "the header is followed by no samples")
        decoded = _decode(path, sound, info, claimed, limit)
    _check_length(path, info, claimed, decoded.frames)
    return _checked(path, decoded)


class _SequentialFile(soundfile.SoundFile):
    """A sound file that is only read forward.

    python-soundfile seeks after every read of a seekable file, and in a FLAC with a wrong or unknown length that seek
    fails after the samples were decoded well.
    """

    def seekable(self) -> bool:
        return False


@dataclass(slots=True)
class _Decoded:
    """What one pass over a file leaves: the samples at 16 kHz, and sums over the raw channels."""

    pieces: list[np.ndarray] = field(default_factory=list)
    frames: int = 0
    peak: float = 0.0
    flat: int = 0
    low: np.ndarray | float = math.inf
    high: np.ndarray | float = -math.inf
    power: np.ndarray | float = 0.0
    mono_power: float = 0.0


def _decode(path: Path, sound: _SequentialFile, info: AudioInfo, claimed: int | None, limit: int) -> _Decoded:
    out = _Decoded()
    rate = info.sample_rate_hz
    resampler = soxr.ResampleStream(rate, SAMPLE_RATE_HZ, 1, dtype="float32") if rate != SAMPLE_RATE_HZ else None
    size = max(1, _BLOCK_VALUES // info.channels)
    # libFLAC loses its way in a tag behind the last frame, and the block that reaches there is lost with it.
    end = claimed if claimed is not None and info.container == "FLAC" else sys.maxsize
    while len(block := _read_block(path, sound, min(size, end - out.frames), out.frames, claimed)):
        out.frames += len(block)
        if out.frames > limit:
            raise AudioError("too_long", path, f"more than {limit / rate:g} s (its header does not say how long)")
        if not np.isfinite(block).all():
            bad = int(np.size(block) - np.isfinite(block).sum())
            raise AudioError("non_finite", path, f"{bad} NaN or infinite samples within the first {out.frames} frames")
        mono = block.mean(axis=1)
        _accumulate(out, block, mono)
        piece = mono.astype(np.float32)
        out.pieces.append(piece if resampler is None else resampler.resample_chunk(piece))
    if resampler is not None and out.frames:
        out.pieces.append(resampler.resample_chunk(np.zeros(0, np.float32), last=True))
    return out


def _read_block(path: Path, sound: _SequentialFile, size: int, before: int, claimed: int | None) -> np.ndarray:
    """The next (frames, channels) float64 block; no rows at the end of the file."""
    try:
        return sound.read(size, dtype="float64", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, OSError, MemoryError) as error:
        if claimed is None:
            raise AudioError("not_audio", path, f"its content does not decode ({_words(error)})") from None
        detail = f"its header promises {claimed} frames, decoding breaks off in those after {before}"
        raise AudioError("truncated", path, f"{detail} ({_words(error)})") from None


def _accumulate(out: _Decoded, block: np.ndarray, mono: np.ndarray) -> None:
    low, high, power = block.min(axis=0), block.max(axis=0), np.square(block).sum(axis=0)
    out.low = np.minimum(out.low, low)
    out.high = np.maximum(out.high, high)
    out.power = out.power + power
    out.mono_power += float(np.square(mono).sum())
    out.peak = max(out.peak, float(-low.min()), float(high.max()))
    out.flat += max(_flat_samples(block[:, channel]) for channel in range(block.shape[1]))


def _flat_samples(x: np.ndarray) -> int:
    """Number of samples of `x` (n,) in runs of three or more at its peak; see `CLIPPED_SHARE`."""
    magnitude = np.abs(x)
    peak = magnitude.max()
    if peak < 0.1:
        return 0
    at_peak = magnitude >= peak * (1 - 1e-4)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], at_peak, [False]))))
    runs = edges[1::2] - edges[::2]
    return int(runs[runs >= 3].sum())


def _claimed_frames(path: Path, info: AudioInfo) -> int | None:
    """Frames that the file's own header promises, which libsndfile cuts to what is there; None if it does not say."""
    promised = containers.promised_bytes(path)
    if promised is None or info.frames is None or promised.stated <= promised.available:
        return info.frames
    if promised.available == 0 or info.frames == 0:
        return max(1, promised.stated // max(1, promised.bytes_per_frame))
    # Scaling what libsndfile counted is right for compressed encodings as well.
    return max(info.frames + 1, round(info.frames * promised.stated / promised.available))


def _check_length(path: Path, info: AudioInfo, claimed: int | None, decoded: int) -> None:
    if decoded == 0 and not claimed:
        raise AudioError("empty", path, "no samples")
    slack = _MP3_SLACK_FRAMES if info.container == "MP3" else 0
    if claimed is not None and decoded + slack < claimed:
        raise AudioError("truncated", path, f"its header promises {claimed} frames, the file holds {decoded}")
    if info.container == "FLAC" and claimed is not None:
        found = containers.flac_frames_beyond(path, claimed, _SequentialFile)
        if found > claimed:
            raise AudioError("truncated", path, f"its header promises {claimed} frames, the file holds more")
    if info.container == "OGG" and containers.ogg_ends_within_page(path):
        raise AudioError("truncated", path, "it ends within an Ogg page")


def _checked(path: Path, decoded: _Decoded) -> np.ndarray:
    samples = np.concatenate(decoded.pieces)
    if len(samples) < MIN_SAMPLES:
        raise AudioError("too_short", path, f"{len(samples)} samples at 16 kHz, one 25 ms frame has {MIN_SAMPLES}")
    variation = float(np.max(np.subtract(decoded.high, decoded.low)))
    if variation < SILENCE_RANGE:
        level = f"by more than {variation:.1e} of full scale" if variation else "at all"
        raise AudioError("silent", path, f"no channel varies {level}")
    if decoded.mono_power < ANTIPHASE_RATIO**2 * float(np.max(decoded.power)):
        raise AudioError("antiphase", path, "its channels cancel when they are averaged")
    if decoded.peak > MAX_PEAK:
        raise AudioError("out_of_range", path, f"a peak of {decoded.peak:.3g} times full scale")
    share = decoded.flat / decoded.frames
    if share > CLIPPED_SHARE:
        raise AudioError("clipped", path, f"{100 * share:.0f} % of its samples lie on flat tops")
    return samples


def _info(path: Path, sound: soundfile.SoundFile) -> AudioInfo:
    rate = int(sound.samplerate)
    low, high = _RATE_LIMITS_HZ
    if not low <= rate <= high:
        raise AudioError("bad_sample_rate", path, f"{rate} samples per second, outside {low} to {high}")
    frames = int(sound.frames)
    known = 0 <= frames < _UNKNOWN_FRAMES
    return AudioInfo(path, sound.format, sound.subtype, rate, int(sound.channels), frames if known else None)


def _check_regular(path: Path) -> None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL byte in the name
        raise AudioError("missing", path, "no such file") from None
    except OSError as error:
        raise AudioError("unreadable", path, _words(error)) from None
    if not stat.S_ISREG(status.st_mode):
        raise AudioError("not_a_file", path, "not a regular file")
    if status.st_size == 0:
        raise AudioError("empty", path, "no bytes")
    if not os.access(path, os.R_OK):
        raise AudioError("unreadable", path, "no permission to read it")


def _open(path: Path) -> _SequentialFile:
    try:
        return _SequentialFile(os.fspath(path))
    except (soundfile.SoundFileError, RuntimeError, TypeError, OSError, MemoryError, UnicodeError) as error:
        raise AudioError("not_audio", path, f"not audio that can be decoded ({_words(error)})") from None


def _words(error: BaseException) -> str:
    """An error in one line, without the path that libsndfile and the system put into it."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split()).rstrip(".") or type(error).__name__


@contextlib.contextmanager
def _quiet_decoder() -> Iterator[None]:
    """Send what libmpg123 writes to file descriptor 2 to nowhere: it is not addressed to our user."""
    try:
        saved = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
