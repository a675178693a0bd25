"""Seven labels of a transcript that failed, kept apart: a word error rate says that it failed, not how.

Each is a pure function of the record (texts, log-probability, condition, truncation) under `Rules`, and three-valued:
None where the question has no answer, as insertions without a reference. They overlap, and nothing adds them up.

| label | holds where |
|---|---|
| wer_above_half | WER > 0.5 after normalisation: the paper's filter, whatever went wrong |
| insertion_heavy | insertions / reference words > 0.5: made-up words alone would pass that filter |
| looping | a block of words at least 3 times on end, 4 words beyond the reference's own, or zlib ratio > 2.4 |
| hallucination_phrase | a phrase of the given list that the reference has not |
| text_on_non_speech | words, where the reference is known to have none or the condition is no speech |
| fluent_unrelated | 3 words or more, mean log-probability > -1, not looping, unrelated to the reference |
| truncated | the audio was longer than the model's window: words of the rest cannot have been heard |

Sources: 2.4 and -1 are Whisper's own thresholds of a failed decoding (Radford et al. 2022, section 4.5); phrases are
Barański et al. 2025; fluent and unrelated is what Frieske and Shi 2024 (arXiv 2401.01572) call a hallucination, here
without a language model (`empirical.recognition.relatedness`). The others' thresholds are this project's.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

from empirical.recognition.loops import Loop, compression_ratio, made_up_by_looping
from empirical.recognition.phrases import PhraseList
from empirical.recognition.relatedness import Relatedness, relatedness
from empirical.recognition.words import NO_SPELLINGS, Spellings, WordErrors, normalise, normaliser_identity, word_errors
from empirical.stress import StressError, removes_speech
from observables.thresholds import FAILED_WER

LABELS = (
    "wer_above_half",
    "insertion_heavy",
    "looping",
    "hallucination_phrase",
    "text_on_non_speech",
    "fluent_unrelated",
    "truncated",
)
"""Names of the labels, in the order of tables."""

MEASURES = ("insertion_rate", "loop_period", "loop_repeats", "loop_words", "phrases", "relatedness")
"""Names of the numbers behind the labels, as `Labels.columns` has them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Thresholds of the labels; each is exceeded strictly unless it says "least".

    Attributes:
        wer: word error rate of the paper's filter.
        insertion_rate: insertions for each word of the reference.
        loop_repeats: least times that a block of words stands on end.
        loop_words: least words of a loop beyond the first time, less the reference's own.
        compression_ratio: bytes of the text over bytes of it compressed.
        log_prob: mean log-probability (natural) above which the model took its text for plausible.
        fluent_words: least words of a fluent text.
        unrelated: score of `relatedness` at or below which a text has nothing to do with its reference, from
            `calibrate`; NaN where it is not known, and fluent_unrelated then has no answer.
        phrases: the phrases looked for; None, and hallucination_phrase then has no answer.
        spellings: which spellings count as one.
    """

    wer: float = FAILED_WER
    insertion_rate: float = 0.5
    loop_repeats: int = 3
    loop_words: int = 4
    compression_ratio: float = 2.4
    log_prob: float = -1.0
    fluent_words: int = 3
    unrelated: float = math.nan
    phrases: PhraseList | None = None
    spellings: Spellings = NO_SPELLINGS

    def identity(self) -> dict[str, Any]:
        """The rules as JSON values, with what text is normalised by."""
        return {
            "wer": self.wer,
            "insertion_rate": self.insertion_rate,
            "loop_repeats": self.loop_repeats,
            "loop_words": self.loop_words,
            "compression_ratio": self.compression_ratio,
            "log_prob": self.log_prob,
            "fluent_words": self.fluent_words,
            "unrelated": None if math.isnan(self.unrelated) else self.unrelated,
            "phrases": None if self.phrases is None else self.phrases.identity(),
            "normaliser": normaliser_identity(self.spellings),
        }


@dataclass(frozen=True, slots=True)
class Heard:
    """What a record says of one transcript.

    Attributes:
        reference: what was said; None where it is not known, empty where it is known that nothing was. Under a
            condition that leaves nothing of the utterance it is taken as empty, whatever stands here.
        transcript: what the model wrote, special tokens removed.
        avg_logprob: mean log-probability (natural) of its tokens; NaN where it was not recorded.
        condition: label of the stress, in the grammar of `empirical.stress`; others are taken to leave the speech.
        truncated: the audio was longer than the model's window.
    """

    reference: str | None
    transcript: str
    avg_logprob: float = math.nan
    condition: str = "clean"
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of one transcript, and the numbers behind them.

    Attributes:
        wer_above_half, insertion_heavy, looping, hallucination_phrase, text_on_non_speech, fluent_unrelated,
            truncated: see the module; None where the question has no answer.
        errors: word errors.
        loop: what the transcript repeats beyond its reference.
        compression_ratio: of the transcript.
        phrases: those of the list that it has.
        relatedness: to the reference; None without one.
        said, wrote: reference and transcript, normalised; said is empty where there is no reference.
    """

    wer_above_half: bool | None
    insertion_heavy: bool | None
    looping: bool
    hallucination_phrase: bool | None
    text_on_non_speech: bool | None
    fluent_unrelated: bool | None
    truncated: bool
    errors: WordErrors
    loop: Loop
    compression_ratio: float
    phrases: tuple[str, ...]
    relatedness: Relatedness | None
    said: str
    wrote: str

    def columns(self) -> dict[str, Any]:
        """Labels by name, and the measures of `MEASURES`."""
        return {
            **{name: getattr(self, name) for name in LABELS},
            "insertion_rate": self.errors.insertion_rate,
            "loop_period": self.loop.period,
            "loop_repeats": self.loop.repeats,
            "loop_words": self.loop.extra,
            "phrases": list(self.phrases),
            "relatedness": math.nan if self.relatedness is None else self.relatedness.score,
        }


def label(heard: Heard, rules: Rules) -> Labels:
    """All labels of one transcript.

    Args:
        heard: the record.
        rules: thresholds; `rules.unrelated` from a calibration on other clips of the same model.
    """
    reference = "" if leaves_no_speech(heard.condition) else heard.reference
    errors = word_errors(reference, heard.transcript, rules.spellings)
    wrote = normalise(heard.transcript, rules.spellings)
    loop = made_up_by_looping(heard.transcript, reference, least_repeats=rules.loop_repeats)
    ratio = compression_ratio(heard.transcript)
    phrases = () if rules.phrases is None else tuple(rules.phrases.found(heard.transcript, reference))
    scored = errors.reason == "ok"
    said = normalise(reference, rules.spellings) if scored and reference is not None else ""
    found = Labels(
        wer_above_half=errors.wer > rules.wer if scored else None,
        insertion_heavy=errors.insertion_rate > rules.insertion_rate if scored else None,
        looping=loop.extra >= rules.loop_words or ratio > rules.compression_ratio,
        hallucination_phrase=None if rules.phrases is None else bool(phrases),
        # Of a clip with words the label asks nothing.
        text_on_non_speech=bool(wrote) if errors.reason == "empty_reference" else None,
        fluent_unrelated=None,
        truncated=heard.truncated,
        errors=errors,
        loop=loop,
        compression_ratio=ratio,
        phrases=phrases,
        relatedness=relatedness(said, wrote) if scored else None,
        said=said,
        wrote=wrote,
    )
    return judge_unrelated(found, heard, rules)


def judge_unrelated(labels: Labels, heard: Heard, rules: Rules) -> Labels:
    """The labels with fluent_unrelated by `rules.unrelated`, which needs the other labels' numbers to be found first.

    Args:
        labels: of this record, under the same rules but for `unrelated`.
        heard: the record.
        rules: with the calibrated threshold.
    """
    if labels.relatedness is None or math.isnan(rules.unrelated) or math.isnan(heard.avg_logprob):
        return replace(labels, fluent_unrelated=None)
    spoken = len(labels.wrote.split()) >= rules.fluent_words
    fluent = spoken and heard.avg_logprob > rules.log_prob and not labels.looping
    return replace(labels, fluent_unrelated=fluent and labels.relatedness.score <= rules.unrelated)


@functools.lru_cache(maxsize=256)
def leaves_no_speech(condition: str) -> bool:
    """Whether the condition puts other sound, or none, in the place of the utterance.

    False of a label that is none of ours, which a table from elsewhere may hold.
    """
    try:
        return removes_speech(condition)
    except StressError:
        return False
