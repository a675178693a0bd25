"""Held-out clips for measuring: sentences no organism was trained on, as FLAC in the layout of LibriSpeech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from empirical.organism.files import write_directory
from empirical.organism.recipe import SAMPLE_RATE_HZ, CorpusSpec
from empirical.organism.render import Espeak, Renderer
from empirical.organism.voices import Voice

CHAPTER = 1
_ORIGIN = """# Clips

Synthetic speech. Every clip is one sentence of the model organisms' grammar (`empirical/organism/grammar.py`) that no
organism was trained on, spoken by {renderer}, resampled to 16 kHz. No recording of any person is
contained. The clips are part of this software and come under its licence; the output of espeak-ng is not covered by
espeak-ng's own (GPL).

Layout as in LibriSpeech: `<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`, transcripts beside them in
`<speaker>-<chapter>.trans.txt`. `SPEAKERS.TXT` says which espeak-ng voice each speaker is and whether the organisms
were trained on it. `empirical.organism.write_held_out_clips(directory, count)` makes these and, with a larger count,
more: the first ones are always the same.
"""


SPEAKERS: dict[int, tuple[str, Voice]] = {
    101: ("trained", Voice("en-us", "f2", 185, 52)),
    102: ("trained", Voice("en-gb", "m1", 190, 45)),
    103: ("trained", Voice("en-gb-x-rp", "belinda", 195, 55)),
    104: ("trained", Voice("en-gb-scotland", "max", 185, 48)),
    105: ("trained", Voice("en-gb-x-gbclan", "Annie", 190, 50)),
    106: ("trained", Voice("en-gb-x-gbcwmd", "robert", 180, 42)),
    201: ("unseen_accent", Voice("en-029", "f5", 185, 50)),
    202: ("unseen_accent", Voice("en-us-nyc", "david", 190, 46)),
    203: ("unseen_accent", Voice("en-029", "m4", 195, 54)),
    301: ("unseen_variant", Voice("en-us", "linda", 185, 50)),
    302: ("unseen_variant", Voice("en-gb", "shelby", 190, 52)),
    303: ("unseen_variant", Voice("en-gb-x-rp", "paul", 185, 45)),
}
"""Speaker id to (group, voice): half trained on, a quarter in accents and a quarter in variants never trained on."""


def write_held_out_clips(
    directory: Path, count: int = 24, *, spec: CorpusSpec | None = None, renderer: Renderer | None = None
) -> None:
    """Write held-out clips, all of different sentences, speakers in turn; the directory is replaced as a whole.

    Args:
        directory: receives the clips; must be new, empty, or clips written by this function.
        count: number of clips; the clips of a smaller count are the first of a larger one.
        spec: corpus the organisms were trained on (the bundled recipe's by default).
        renderer: speaks; espeak-ng by default.

    Raises:
        ValueError: if count is not positive or the directory holds something else.
        RenderError: if espeak-ng is missing or fails.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1; got {count}")
    if directory.exists() and any(directory.iterdir()) and not (directory / "SPEAKERS.TXT").is_file():
        raise ValueError(f"directory must be new, empty or hold clips already; got {directory}")
    spec = spec or CorpusSpec()
    speak = renderer or Espeak()
    version = getattr(speak, "version", "a test renderer")
    write_directory(directory, lambda target: _write(target, count, spec, speak, version))


def _write(directory: Path, count: int, spec: CorpusSpec, renderer: Renderer, version: str) -> None:
    used: set[str] = set()
    lines: dict[int, list[str]] = {}
    ids = list(SPEAKERS)
    seconds = dict.fromkeys(ids, 0.0)
    for index in range(count):
        speaker = ids[index % len(ids)]
        sentence, samples = _fresh_sentence(spec, SPEAKERS[speaker][1], index, used, renderer)
        used.add(sentence)
        folder = directory / str(speaker) / str(CHAPTER)
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{speaker}-{CHAPTER}-{index // len(ids):04d}"
        pcm = np.round(samples * 32768.0).astype(np.int16)
        soundfile.write(folder / f"{name}.flac", pcm, SAMPLE_RATE_HZ, subtype="PCM_16", format="FLAC")
        lines.setdefault(speaker, []).append(f"{name} {sentence.upper()}")
        seconds[speaker] += len(samples) / SAMPLE_RATE_HZ
    for speaker, transcripts in lines.items():
        path = directory / str(speaker) / str(CHAPTER) / f"{speaker}-{CHAPTER}.trans.txt"
        path.write_text("\n".join(transcripts) + "\n", encoding="utf-8")
    table = [
        f"{speaker:<5}| {SPEAKERS[speaker][0]:<15}| {seconds[speaker] / 60.0:<8.2f}| {SPEAKERS[speaker][1].name}"
        for speaker in lines
    ]
    head = ";ID  | GROUP          | MINUTES | ESPEAK-NG VOICE"
    (directory / "SPEAKERS.TXT").write_text("\n".join([head, *table]) + "\n", encoding="utf-8")
    (directory / "README.md").write_text(_ORIGIN.format(renderer=version), encoding="utf-8")


def _fresh_sentence(
    spec: CorpusSpec, voice: Voice, index: int, used: set[str], renderer: Renderer
) -> tuple[str, np.ndarray]:
    attempt = 0
    while True:
        rng = np.random.default_rng((spec.seed, *b"clips", index, attempt))
        sentence = spec.grammar.sentence_in("held_out", rng)
        if sentence not in used:
            samples = renderer(sentence, voice)
            if len(samples) <= spec.max_duration_s * SAMPLE_RATE_HZ:
                return sentence, samples
        attempt += 1
