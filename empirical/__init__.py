"""Speech in, measured chains out: audio, stress, Whisper checkpoints, activations, propagators, context Jacobians."""

from empirical.activations import capture
from empirical.audio import AudioError, AudioInfo, inspect_audio, load_audio
from empirical.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from empirical.clips import Clip, ClipError, bundled_clips, find_clips, scan_clips
from empirical.manifest import write_manifest
from empirical.stress import Clean, Mix, Noise, StressError, Stretch, stressor
from empirical.transcribe import Transcript, normaliser_identity, transcribe, word_errors

__all__ = [
    "AudioError",
    "AudioInfo",
    "Checkpoint",
    "CheckpointError",
    "Clean",
    "Clip",
    "ClipError",
    "Mix",
    "Noise",
    "StressError",
    "Stretch",
    "Transcript",
    "bundled_clips",
    "capture",
    "find_clips",
    "inspect_audio",
    "load_audio",
    "load_checkpoint",
    "normaliser_identity",
    "scan_clips",
    "stressor",
    "transcribe",
    "word_errors",
    "write_manifest",
]
