"""Speech in, measured chains out: audio, stress, Whisper checkpoints, activations, propagators, context Jacobians.

Names are imported when they are first asked for: stresses, clips and labels need none of the seconds that torch takes.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from empirical.activations import capture
    from empirical.analysis import analyze
    from empirical.blocks import BLOCK_COLUMNS, block_parameters
    from empirical.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint
    from empirical.checkpoints.published import write_random_checkpoint
    from empirical.listening import ListenRecords, listen
    from empirical.organism import OrganismInfo, list_organisms, organism_path
    from empirical.recognition.forward import WhisperFunction, check_determinism
    from empirical.recognition.labels import Heard, Labels, Rules, label
    from empirical.recognition.phrases import load_phrases
    from empirical.recognition.relatedness import relatedness
    from empirical.recognition.transcribe import Transcript, normaliser_identity, transcribe, word_errors
    from empirical.speech.audio import AudioError, AudioInfo, inspect_audio, load_audio
    from empirical.speech.clips import Clip, ClipError, bundled_clips, find_clips, scan_clips
    from empirical.speech.datasets import check_data
    from empirical.speech.librispeech_fetch import fetch_librispeech
    from empirical.speech.manifest import write_manifest
    from empirical.speech.manifest_checking import check_manifest
    from empirical.speech.manifest_reading import read_manifest
    from empirical.speech.manifest_records import ManifestError
    from empirical.speech.samples import Sample, make_sample
    from empirical.stress import (
        Clean,
        Clipping,
        Composition,
        Mix,
        Noise,
        NonSpeech,
        Reverberation,
        Silence,
        StressError,
        Stretch,
        stressor,
    )
    from empirical.subspaces import SUBSPACE_COLUMNS, subspace_alignment
    from empirical.task import TaskRecords, measure_task

_HOMES = {
    "AudioError": "empirical.speech.audio",
    "AudioInfo": "empirical.speech.audio",
    "BLOCK_COLUMNS": "empirical.blocks",
    "Checkpoint": "empirical.checkpoints.checkpoint",
    "CheckpointError": "empirical.checkpoints.checkpoint",
    "Clean": "empirical.stress",
    "Clip": "empirical.speech.clips",
    "ClipError": "empirical.speech.clips",
    "Clipping": "empirical.stress",
    "Composition": "empirical.stress",
    "Heard": "empirical.recognition.labels",
    "Labels": "empirical.recognition.labels",
    "ListenRecords": "empirical.listening",
    "ManifestError": "empirical.speech.manifest_records",
    "Mix": "empirical.stress",
    "Noise": "empirical.stress",
    "NonSpeech": "empirical.stress",
    "OrganismInfo": "empirical.organism",
    "Reverberation": "empirical.stress",
    "Rules": "empirical.recognition.labels",
    "SUBSPACE_COLUMNS": "empirical.subspaces",
    "Sample": "empirical.speech.samples",
    "Silence": "empirical.stress",
    "StressError": "empirical.stress",
    "Stretch": "empirical.stress",
    "TaskRecords": "empirical.task",
    "Transcript": "empirical.recognition.transcribe",
    "WhisperFunction": "empirical.recognition.forward",
    "analyze": "empirical.analysis",
    "block_parameters": "empirical.blocks",
    "bundled_clips": "empirical.speech.clips",
    "capture": "empirical.activations",
    "check_data": "empirical.speech.datasets",
    "check_determinism": "empirical.recognition.forward",
    "check_manifest": "empirical.speech.manifest_checking",
    "fetch_librispeech": "empirical.speech.librispeech_fetch",
    "find_clips": "empirical.speech.clips",
    "inspect_audio": "empirical.speech.audio",
    "label": "empirical.recognition.labels",
    "list_organisms": "empirical.organism",
    "listen": "empirical.listening",
    "load_audio": "empirical.speech.audio",
    "load_checkpoint": "empirical.checkpoints.checkpoint",
    "load_phrases": "empirical.recognition.phrases",
    "make_sample": "empirical.speech.samples",
    "measure_task": "empirical.task",
    "normaliser_identity": "empirical.recognition.transcribe",
    "organism_path": "empirical.organism",
    "read_manifest": "empirical.speech.manifest_reading",
    "relatedness": "empirical.recognition.relatedness",
    "scan_clips": "empirical.speech.clips",
    "stressor": "empirical.stress",
    "subspace_alignment": "empirical.subspaces",
    "transcribe": "empirical.recognition.transcribe",
    "word_errors": "empirical.recognition.transcribe",
    "write_manifest": "empirical.speech.manifest",
    "write_random_checkpoint": "empirical.checkpoints.published",
}

__all__ = [
    "BLOCK_COLUMNS",
    "SUBSPACE_COLUMNS",
    "AudioError",
    "AudioInfo",
    "Checkpoint",
    "CheckpointError",
    "Clean",
    "Clip",
    "ClipError",
    "Clipping",
    "Composition",
    "Heard",
    "Labels",
    "ListenRecords",
    "ManifestError",
    "Mix",
    "Noise",
    "NonSpeech",
    "OrganismInfo",
    "Reverberation",
    "Rules",
    "Sample",
    "Silence",
    "StressError",
    "Stretch",
    "TaskRecords",
    "Transcript",
    "WhisperFunction",
    "analyze",
    "block_parameters",
    "bundled_clips",
    "capture",
    "check_data",
    "check_determinism",
    "check_manifest",
    "fetch_librispeech",
    "find_clips",
    "inspect_audio",
    "label",
    "list_organisms",
    "listen",
    "load_audio",
    "load_checkpoint",
    "load_phrases",
    "make_sample",
    "measure_task",
    "normaliser_identity",
    "organism_path",
    "read_manifest",
    "relatedness",
    "scan_clips",
    "stressor",
    "subspace_alignment",
    "transcribe",
    "word_errors",
    "write_manifest",
    "write_random_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
