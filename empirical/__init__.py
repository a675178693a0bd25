"""Speech in, measured chains out: audio, stress, Whisper checkpoints, activations, propagators, context Jacobians."""

from empirical.audio import AudioError, AudioInfo, inspect_audio, load_audio
from empirical.clips import Clip, ClipError, bundled_clips, find_clips, scan_clips
from empirical.stress import Clean, Mix, Noise, StressError, Stretch, stressor

__all__ = [
    "AudioError",
    "AudioInfo",
    "Clean",
    "Clip",
    "ClipError",
    "Mix",
    "Noise",
    "StressError",
    "Stretch",
    "bundled_clips",
    "find_clips",
    "inspect_audio",
    "load_audio",
    "scan_clips",
    "stressor",
]
