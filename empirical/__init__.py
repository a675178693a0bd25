"""Speech in, measured chains out: audio, stress, Whisper checkpoints, activations, propagators, context Jacobians."""

from empirical.activations import capture
from empirical.analyze import analyze
from empirical.blocks import BLOCK_COLUMNS, block_parameters
from empirical.checkpoints.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from empirical.checkpoints.published import write_random_checkpoint
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
from empirical.speech.stress import Clean, Mix, Noise, StressError, Stretch, stressor
from empirical.subspaces import SUBSPACE_COLUMNS, subspace_alignment
from empirical.task import TaskRecords, measure_task

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
    "Heard",
    "Labels",
    "Mix",
    "Noise",
    "OrganismInfo",
    "Rules",
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
    "fetch_librispeech",
    "find_clips",
    "inspect_audio",
    "label",
    "list_organisms",
    "load_audio",
    "load_checkpoint",
    "load_phrases",
    "measure_task",
    "normaliser_identity",
    "organism_path",
    "relatedness",
    "scan_clips",
    "stressor",
    "subspace_alignment",
    "transcribe",
    "word_errors",
    "write_manifest",
    "write_random_checkpoint",
]
