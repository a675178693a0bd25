"""What a manifest's line says, which versions made it, and why one is refused."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import soundfile

from empirical.errors import CodedError
from empirical.speech.audio import AudioError

SCHEMA_VERSION = 2
"""Of a manifest's lines. 1 had no "condition", "schema_version", "line", "lines" and "versions"."""

VERSIONED = ("spi", "numpy", "scipy", "soundfile", "soxr")
"""Distributions whose code decides the bytes of a sample; libsndfile, which decodes, is noted beside them."""


class ManifestError(CodedError, ValueError):
    """A manifest that cannot be read, or a sample that is no longer what its manifest says."""

    CODES = MappingProxyType(
        {
            "unreadable": "no such file, or one that the system refuses to read",
            "not_a_manifest": "a file that is not JSON lines of stressed utterances",
            "other_version": "a manifest of another schema version",
            "cut": "fewer lines than the manifest was written with, or one that breaks off",
            "bad_line": "a line without a field, or with one of the wrong kind",
            "busy": "another process is writing the same manifest",
            "duplicate": "two lines of one utterance and condition",
            "unknown_stressor": "a condition that this version cannot make",
            "absent_audio": "an utterance whose audio is not among the clips",
            "changed_source": "audio that is not the file that the manifest was made from",
            "changed_result": "the same audio, stressed as recorded, gives other samples",
        }
    )


@dataclass(frozen=True, slots=True)
class ManifestLine:
    """One utterance under one condition, as a manifest fixes it.

    Attributes:
        utterance: its id.
        condition: canonical label of the stressor.
        seed: of the stress.
        parameters: what was asked, and names and starts of what was mixed in.
        achieved: numbers measured on the samples.
        notes: short codes of what was out of the ordinary.
        samples: number of them at 16 kHz.
        truncated: whether that is more than `window_s`.
        window_s: seconds.
        reference: transcript, or None where there is none.
        speaker: who speaks, or None.
        source: name of the audio file.
        source_sha256: of the file's bytes, hexadecimal.
        result_sha256: of the samples as little-endian float32; None where nothing was made of the source, which is
            then to be checked alone.
        audio: name of the file that `spi stress --write-audio` wrote, or None.
        versions: what made it; see `versions`.
    """

    utterance: str
    condition: str
    seed: int
    parameters: Mapping[str, object]
    achieved: Mapping[str, float]
    notes: tuple[str, ...]
    samples: int
    truncated: bool
    window_s: float
    reference: str | None
    speaker: str | None
    source: str
    source_sha256: str
    result_sha256: str | None
    audio: str | None
    versions: Mapping[str, str]


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what decides the bytes of a sample: `VERSIONED` and libsndfile; not to be written to."""
    found = {name: importlib.metadata.version(name) for name in VERSIONED}
    return found | {"libsndfile": soundfile.__libsndfile_version__}


def version_differences(recorded: Mapping[str, str]) -> str:
    """What is of another version here than there, in words; "" where nothing is."""
    here = versions()
    return ", ".join(
        f"{name} {here.get(name, 'absent')} here and {recorded.get(name, 'absent')} there"
        for name in sorted({*here, *recorded})
        if here.get(name) != recorded.get(name)
    )


def samples_sha256(samples: np.ndarray) -> str:
    """SHA-256 of samples as little-endian float32 bytes."""
    return hashlib.sha256(np.ascontiguousarray(samples, dtype="<f4").tobytes()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        OSError: if it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source_sha256(path: Path) -> str:
    """SHA-256 of an audio file's bytes.

    Raises:
        AudioError: "unreadable".
    """
    try:
        return file_sha256(path)
    except OSError as error:
        raise AudioError("unreadable", path, error.strerror or str(error)) from None
