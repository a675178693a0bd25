"""Word error rates of a stored organism, clean and under each stress.

What is judged is the directory as shipped: its float16 weights upcast to float32, its feature extractor on the whole
window, its own `generate`, and the stresses and text normalisation that measuring uses.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from empirical.organism.bundle import STRESSES
from empirical.organism.corpus import SpokenClip
from empirical.organism.export import quiet_transformers
from empirical.organism.recipe import SAMPLE_RATE_HZ
from empirical.recognition.words import word_errors
from empirical.stress import PoolClip, apply, stressor

CLEAN_SETS = ("sentences", "accents", "voices")

_BATCH = 20
_EXAMPLES = 4


@dataclass(frozen=True, slots=True)
class ConditionResult:
    """Word errors of one organism on one set of clips.

    Attributes:
        wer: word errors per reference word, pooled over the clips.
        clips: number of clips.
        reference_words: number of reference words.
        substitutions: words replaced.
        deletions: words left out.
        insertions: words added.
        empty: transcripts without a word.
        examples: a few (reference, transcript) pairs, wrong ones first.
    """

    wer: float
    clips: int
    reference_words: int
    substitutions: int
    deletions: int
    insertions: int
    empty: int
    examples: tuple[tuple[str, str], ...]


def transcribe_all(
    model: WhisperForConditionalGeneration, processor: WhisperProcessor, audio: Iterable[np.ndarray]
) -> list[str]:
    """Greedy transcripts by `generate`, in batches, from the full window.

    Args:
        model: a float32 model.
        processor: its processor.
        audio: float32 samples at 16 kHz, each of shape (n,).
    """
    clips = list(audio)
    texts: list[str] = []
    for first in range(0, len(clips), _BATCH):
        features = processor.feature_extractor(
            clips[first : first + _BATCH], sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt"
        ).input_features
        with torch.no_grad():
            # The mask is all ones: Whisper's encoder has none, and without one generate warns about batches.
            mask = torch.ones(features.shape[0], features.shape[2], dtype=torch.long)
            ids = model.generate(features, attention_mask=mask, num_beams=1, do_sample=False)
        decoded = processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        texts.extend(text.strip() for text in decoded)
    return texts


def score(references: Sequence[str], transcripts: Sequence[str]) -> ConditionResult:
    """Pool word errors over clips."""
    counts = [word_errors(reference, text) for reference, text in zip(references, transcripts, strict=True)]
    words = sum(count.reference_words for count in counts)
    errors = [count.substitutions + count.deletions + count.insertions for count in counts]
    wrong_first = sorted(range(len(counts)), key=lambda i: errors[i] == 0)
    return ConditionResult(
        wer=sum(errors) / words if words else float("nan"),
        clips=len(counts),
        reference_words=words,
        substitutions=sum(count.substitutions for count in counts),
        deletions=sum(count.deletions for count in counts),
        insertions=sum(count.insertions for count in counts),
        empty=sum(not text.strip() for text in transcripts),
        examples=tuple((references[i], transcripts[i]) for i in wrong_first[:_EXAMPLES]),
    )


def stressed(clips: Sequence[SpokenClip], condition: str, pool: Sequence[PoolClip], seed: int) -> list[np.ndarray]:
    """The clips under one stress, as measuring would apply it.

    Args:
        clips: clips to stress; clip number i is utterance "<i>" of the pool.
        condition: "stretch", "mix" or "noise".
        pool: other speakers to mix in.
        seed: seed of the stress.
    """
    chosen = stressor(condition)
    return [
        apply(chosen, clip.samples, utterance=utterance_name(clip, index), seed=seed, pool=pool).samples
        for index, clip in enumerate(clips)
    ]


def utterance_name(clip: SpokenClip, index: int) -> str:
    """A name for a test clip: its voice and number."""
    return f"{clip.voice.name}-{index:04d}"


def speaker_pool(clips: Sequence[SpokenClip]) -> list[PoolClip]:
    """The clips as a pool of speakers to mix from; a speaker is an accent with a variant."""

    def entry(index: int, clip: SpokenClip) -> PoolClip:
        return PoolClip(name=utterance_name(clip, index), speaker=clip.voice.name, load=lambda: clip.samples)

    return [entry(index, clip) for index, clip in enumerate(clips)]


def evaluate(
    directory: Path, test_sets: dict[str, list[SpokenClip]], seed: int, *, progress: bool = False
) -> dict[str, ConditionResult]:
    """Judge a stored organism.

    Args:
        directory: checkpoint directory.
        test_sets: clips of "sentences", "accents" and "voices"; the stresses are applied to "sentences".
        seed: seed of the stresses.
        progress: show a bar when on a terminal.

    Returns:
        Results by condition: the three clean sets, then the stresses.
    """
    processor = WhisperProcessor.from_pretrained(directory)
    with quiet_transformers():
        model = WhisperForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
    plain = test_sets["sentences"]
    pool = speaker_pool(plain)
    results: dict[str, ConditionResult] = {}
    for condition in tqdm((*CLEAN_SETS, *STRESSES), desc="evaluating", disable=None if progress else True):
        clips = test_sets.get(condition, plain)
        audio = [clip.samples for clip in clips] if condition in test_sets else stressed(clips, condition, pool, seed)
        results[condition] = score([clip.text for clip in clips], transcribe_all(model, processor, audio))
    return results
