"""The rendered corpus: training features and test clips, cached on disk by the identity of their specification."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from empirical.organism.features import LogMel, make_feature_extractor
from empirical.organism.files import write_directory
from empirical.organism.grammar import Split
from empirical.organism.recipe import SAMPLE_RATE_HZ, CorpusSpec, ModelShape
from empirical.organism.render import Renderer, RenderError
from empirical.organism.voices import Voice, VoiceGroup

TEST_SETS: dict[str, tuple[Split, VoiceGroup]] = {
    "sentences": ("held_out", "trained"),
    "accents": ("held_out", "unseen_accent"),
    "voices": ("held_out", "unseen_variant"),
}
"""Test sets by name: every sentence is held out; the voices are trained ones, unseen accents or unseen variants."""

_MOST_ATTEMPTS = 50
_RENDER_THREADS = 2


@dataclass(frozen=True, slots=True)
class SpokenClip:
    """One rendered sentence.

    Attributes:
        text: the sentence.
        voice: who speaks it.
        samples: float32 at 16 kHz, shape (n,).
    """

    text: str
    voice: Voice
    samples: np.ndarray


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Features to train on, laid end to end.

    Attributes:
        features: normalised log-mel, float16, shape (total frames, 80).
        offsets: first frame of each clip and the end of the last, int64, shape (clips + 1,).
        power: mean square of each clip's samples, float64, shape (clips,).
        texts: sentence of each clip.
    """

    features: np.ndarray
    offsets: np.ndarray
    power: np.ndarray
    texts: tuple[str, ...]

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each clip, shape (clips,)."""
        return np.diff(self.offsets)


def render_clip(spec: CorpusSpec, split: Split, group: VoiceGroup, index: int, renderer: Renderer) -> SpokenClip:
    """Render clip number `index` of a set; the same arguments give the same clip, in whatever order they come.

    The voice depends on (seed, set, index); sentences are drawn until one is short enough for it.

    Raises:
        RenderError: if no sentence of the grammar is short enough.
    """
    key = (spec.seed, *f"{split}/{group}".encode(), index)
    voice = spec.voices.draw(group, np.random.default_rng((*key, 0)))
    for attempt in range(1, _MOST_ATTEMPTS + 1):
        sentence = spec.grammar.sentence_in(split, np.random.default_rng((*key, attempt)))
        samples = renderer(sentence, voice)
        if len(samples) <= spec.max_duration_s * SAMPLE_RATE_HZ:
            return SpokenClip(sentence, voice, samples)
    raise RenderError(f"no sentence of {voice.name} lasts at most {spec.max_duration_s} s")


def render_set(
    spec: CorpusSpec, split: Split, group: VoiceGroup, count: int, renderer: Renderer, *, progress: bool = False
) -> Iterator[SpokenClip]:
    """Render the first `count` clips of a set, in order."""
    with ThreadPoolExecutor(_RENDER_THREADS) as pool:
        clips = pool.map(lambda index: render_clip(spec, split, group, index, renderer), range(count))
        yield from tqdm(clips, total=count, desc=f"rendering {split}, {group}", disable=None if progress else True)


def training_data(
    spec: CorpusSpec, shape: ModelShape, renderer: Callable[[], Renderer], work_dir: Path, *, progress: bool = False
) -> TrainingData:
    """Features of the training clips, rendered once and then read from `work_dir`.

    Args:
        spec: the corpus.
        shape: gives the window; features of a short clip do not depend on it.
        renderer: makes a renderer; called only if the cache is empty.
        work_dir: directory of the caches.
        progress: show a bar when on a terminal.
    """
    cache = work_dir / f"corpus-{spec.identity}" / "train"
    if not cache.is_dir():
        log_mel = LogMel(make_feature_extractor(shape))
        features, power, texts = [], [], []
        for clip in render_set(spec, "train", "trained", spec.train_clips, renderer(), progress=progress):
            features.append(log_mel(clip.samples).T.numpy().astype(np.float16))
            power.append(float(np.mean(np.square(clip.samples, dtype=np.float64))))
            texts.append(clip.text)

        def write(directory: Path) -> None:
            np.save(directory / "features.npy", np.concatenate(features))
            np.save(directory / "offsets.npy", np.cumsum([0, *(len(feature) for feature in features)]))
            np.save(directory / "power.npy", np.asarray(power))
            (directory / "texts.json").write_text(json.dumps(texts), encoding="utf-8")

        write_directory(cache, write)
    return TrainingData(
        features=np.load(cache / "features.npy", mmap_mode="r"),
        offsets=np.load(cache / "offsets.npy"),
        power=np.load(cache / "power.npy"),
        texts=tuple(json.loads((cache / "texts.json").read_text(encoding="utf-8"))),
    )


def held_out_clips(
    spec: CorpusSpec,
    split: Split,
    group: VoiceGroup,
    count: int,
    renderer: Callable[[], Renderer],
    work_dir: Path,
    *,
    progress: bool = False,
) -> list[SpokenClip]:
    """The first `count` clips of a test set, rendered once and then read from `work_dir`."""
    cache = work_dir / f"corpus-{spec.identity}" / f"{split}-{group}-{count}"
    if not cache.is_dir():
        clips = list(render_set(spec, split, group, count, renderer(), progress=progress))

        def write(directory: Path) -> None:
            samples = np.concatenate([clip.samples for clip in clips])
            np.save(directory / "samples.npy", np.round(samples * 32768.0).astype(np.int16))
            lines = [{"text": c.text, "voice": asdict(c.voice), "samples": len(c.samples)} for c in clips]
            (directory / "clips.json").write_text(json.dumps(lines), encoding="utf-8")

        write_directory(cache, write)
    samples = np.load(cache / "samples.npy").astype(np.float32) / 32768.0
    lines = json.loads((cache / "clips.json").read_text(encoding="utf-8"))
    ends = np.cumsum([line["samples"] for line in lines])
    return [
        SpokenClip(line["text"], Voice(**line["voice"]), part)
        for line, part in zip(lines, np.split(samples, ends[:-1]), strict=True)
    ]
