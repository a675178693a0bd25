"""Whether a manifest's samples can still be made, to the byte."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from empirical.speech.audio import AudioError
from empirical.speech.manifest_reading import Manifest, RefusedSample, manifest_samples
from empirical.speech.manifest_records import ManifestError
from empirical.speech.records import Clip
from empirical.speech.samples import make_sample, sound_pool
from empirical.stress import PoolClip, StressError


@dataclass(frozen=True, slots=True)
class ManifestCheck:
    """What came of making a manifest's samples again.

    Attributes:
        lines: of the manifest.
        same: those that gave the recorded bytes.
        refused: the others, by utterance, each with its code.
    """

    lines: int
    same: int
    refused: tuple[RefusedSample, ...]


def check_manifest(
    manifest: Manifest,
    clips: Sequence[Clip],
    *,
    noises: Sequence[PoolClip] = (),
    progress: Callable[[], None] | None = None,
) -> ManifestCheck:
    """Make every line's sample again from its source and compare the hashes of both ends.

    Args:
        manifest: as `read_manifest` gives it.
        clips: the audio at hand, of which mixes are remade too.
        noises: recordings for lines that take noise from a folder.
        progress: called after each line.
    """
    samples, refused = manifest_samples(manifest, clips)
    recorded = {(line.utterance, line.condition) for line in manifest.lines}
    refused = [each for each in refused if (each.utterance, each.condition) in recorded]
    pool = sound_pool(clips)
    same = 0
    for _ in refused:
        if progress is not None:
            progress()
    for sample in samples:
        if (sample.clip.name, sample.condition) not in recorded:
            continue  # a clean one beside the manifest's lines
        try:
            make_sample(sample, pool=pool, noises=noises)
            same += 1
        except (AudioError, StressError, ManifestError) as error:
            detail = error.detail if isinstance(error, AudioError) else error.message
            refused.append(RefusedSample(sample.clip.name, sample.condition, error.code, detail))
        if progress is not None:
            progress()
    refused.sort(key=lambda one: (one.utterance, one.condition))
    return ManifestCheck(len(manifest.lines), same, tuple(refused))
