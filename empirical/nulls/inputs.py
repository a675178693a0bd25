"""What null models hear and are forced to say: clips as the trained model heard and transcribed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from empirical.checkpoints.checkpoint import Checkpoint
from empirical.hearing import TokensFrom, prepare
from empirical.speech.clips import Clip
from empirical.speech.samples import Sample, sound_pool

CONDITIONS = ("clean", "noise")
CLIPS = 2
"""Clips, and the conditions each is heard under, on which every draw is measured."""


@dataclass(frozen=True, slots=True, eq=False)
class NullInput:
    """What a null model hears and is forced to say: the trained model's transcript of one clip and condition.

    Attributes:
        clip, condition: names.
        frame: encoder position in the middle of the clip's own audio.
        features: log-mel, (1, mels, frames).
        states: the trained model's encoder states, (1, S, d).
        tokens: decoder input ids along which everything is measured, prompt included.
        tokens_from: "own", of the trained model's transcript, or "reference".
        transcript: the trained model's text.
        truncated: the audio was cut at the window.
    """

    clip: str
    condition: str
    frame: int
    features: Tensor
    states: Tensor
    tokens: tuple[int, ...]
    tokens_from: TokensFrom
    transcript: str
    truncated: bool


def null_inputs(
    checkpoint: Checkpoint,
    clips: Sequence[Clip],
    conditions: Sequence[str] = CONDITIONS,
    *,
    seed: int = 0,
    tokens: TokensFrom = "own",
    max_tokens: int | None = None,
) -> list[NullInput]:
    """Hear and transcribe clips by the trained model, to be measured by the null models.

    Args:
        checkpoint: the trained model.
        clips, conditions: what is heard.
        seed: of the stresses.
        tokens: along which of them the null models are measured, "own" or "reference".
        max_tokens: most tokens of the transcript.

    Raises:
        AudioError, StressError, ReferenceTokensError: if a clip cannot be used.
        ValueError: if `tokens` or `max_tokens` is out of range.
    """
    pool = sound_pool(clips)
    inputs = []
    for clip in clips:
        for condition in conditions:
            sample = Sample(clip, condition, seed)
            heard = prepare(checkpoint, sample, pool=pool, tokens=tokens, max_tokens=max_tokens)
            said = heard.transcript
            inputs.append(
                NullInput(
                    clip=clip.name,
                    condition=condition,
                    frame=heard.frame,
                    features=heard.features,
                    states=heard.states,
                    tokens=heard.tokens,
                    tokens_from=heard.tokens_from,
                    transcript=said.text or "",
                    truncated=said.truncated,
                )
            )
    return inputs
