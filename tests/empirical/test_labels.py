"""Each label holds where its rule says and nowhere else, and has no answer where there is none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.recognition.labels import LABELS, MEASURES, Heard, Labels, Rules, label
from empirical.recognition.loops import Loop, compression_ratio, longest_loop, made_up_by_looping
from empirical.recognition.phrases import load_phrases, phrase_list

PHRASES = phrase_list(["Thanks for watching!", "thanks for", "I'm not sure.", "whoa", "..."], "ours")
RULES = Rules(phrases=PHRASES, unrelated=0.4)
REFERENCE = "the lazy river runs under a cold house today"


def of(transcript: str, reference: str | None = REFERENCE, rules: Rules = RULES, **record: object) -> Labels:
    return label(Heard(reference, transcript, **({"avg_logprob": -0.2} | record)), rules)  # pyright: ignore


def names(labels: Labels) -> set[str]:
    return {name for name in LABELS if getattr(labels, name)}


@pytest.mark.parametrize(
    ("transcript", "expected"),
    [
        (REFERENCE, set()),
        ("The lazy river runs under a cold horse.", set()),
        ("", {"wer_above_half"}),
        ("my soldier opened every book quickly", {"wer_above_half", "fluent_unrelated"}),
        # Five words made up for nine: above half, though every word that was said is there.
        (REFERENCE + " and then we all left", {"wer_above_half", "insertion_heavy"}),
        (REFERENCE + " whoa", set()),
        (REFERENCE + " thanks for watching", {"hallucination_phrase"}),
        ("the lazy river runs under a cold cold cold cold cold", {"looping"}),
    ],
)
def test_labels_of_one_sentence(transcript: str, expected: set[str]) -> None:
    labels = of(transcript)
    assert names(labels) == expected
    assert labels.text_on_non_speech is None and set(labels.columns()) == {*LABELS, *MEASURES}


def test_zlib_tells_a_loop_without_words() -> None:
    text = "ha" * 60
    assert compression_ratio(text) > 2.4 and longest_loop(text) == Loop() and of(text).looping


def test_what_cannot_be_asked_has_no_answer() -> None:
    silent = of("thank you all", "[noise]")
    assert silent.text_on_non_speech is True and silent.wer_above_half is None and silent.insertion_heavy is None
    assert silent.fluent_unrelated is None and silent.errors.insertions == 3
    assert of("uh, [music]", "").text_on_non_speech is False
    unknown = of("thank you all", None)
    assert unknown.text_on_non_speech is None and unknown.fluent_unrelated is None and unknown.looping is False
    assert of("thank you all", None, condition="silence").text_on_non_speech is True
    bare = of("thank you all", rules=Rules())
    assert bare.hallucination_phrase is None and bare.fluent_unrelated is None and bare.wer_above_half is True
    assert of("thank you all", avg_logprob=math.nan).fluent_unrelated is None


@pytest.mark.parametrize("condition", ["silence", "silence:level_dbfs=-40", "non_speech:kind=pink", "noise+silence"])
def test_nothing_was_said_where_the_stress_leaves_no_speech(condition: str) -> None:
    """Whatever reference a record has: what the model writes there is made up, and no word error."""
    made = of("my soldier opened every book", condition=condition)
    assert names(made) == {"text_on_non_speech"} and math.isnan(made.errors.wer) and made.errors.insertions == 5
    assert made.wer_above_half is None and made.fluent_unrelated is None and made.said == ""
    assert of("", condition=condition).text_on_non_speech is False
    # A phrase or a loop that the speaker would have said is none of the speaker's here.
    assert of("thanks for watching", "thanks for watching", condition=condition).hallucination_phrase is True
    assert of("no no no no no", "no no no no no", condition=condition).looping is True


@pytest.mark.parametrize(
    "condition", ["noise:snr_db=-10", "reverberation+noise:snr_db=5", "stretch:rate=2", "of my own"]
)
def test_what_was_said_stays_said_under_every_other_label(condition: str) -> None:
    made = of("my soldier opened every book quickly", condition=condition)
    assert names(made) == {"wer_above_half", "fluent_unrelated"} and made.text_on_non_speech is None


def test_a_text_that_the_model_doubts_or_that_loops_is_not_fluent() -> None:
    text = "my soldier opened every book quickly"
    assert of(text).fluent_unrelated is True
    assert of(text, avg_logprob=-1.0).fluent_unrelated is False
    assert of("my soldier").fluent_unrelated is False
    assert of("book " * 6).fluent_unrelated is False and of("book " * 6).looping


def test_thresholds_themselves_lie_where_the_rules_say() -> None:
    half = of("one wolf", "two wolf")
    assert half.errors.wer == 0.5 and half.wer_above_half is False
    more = of("a cold river runs now now", "a cold river runs")
    assert more.errors.insertion_rate == 0.5 and more.insertion_heavy is False
    text = "my soldier opened every book quickly"
    related = of(text).relatedness
    assert related is not None and of(text, rules=Rules(unrelated=related.score)).fluent_unrelated is True
    assert of(text, rules=Rules(unrelated=math.nextafter(related.score, 0.0))).fluent_unrelated is False


def test_truncated_is_what_the_record_says() -> None:
    assert of(REFERENCE, truncated=True).truncated is True and of(REFERENCE).truncated is False


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 4))
def test_a_block_said_c_times_and_broken_off_is_found_whole(period: int, repeats: int, tail: int) -> None:
    block = [f"w{index}" for index in range(period)]
    tail = min(tail, period - 1)
    text = " ".join(["start", *(block * repeats), *block[:tail], "stop"])
    assert longest_loop(text) == Loop(period, repeats, period * (repeats - 1) + tail)


def test_what_the_speaker_repeats_is_no_loop_of_the_model() -> None:
    said = "no no no no no no he cried"
    assert longest_loop(said) == Loop(1, 6, 5)
    assert made_up_by_looping(said, said).extra == 0 and not of(said, said).looping
    assert made_up_by_looping("no " * 12, said).extra == 11 - 5
    assert longest_loop("x y x y a a a") == Loop(1, 3, 2)  # of equal ones the shorter block
    assert made_up_by_looping("one one one one one", None).extra == 4  # which the normaliser makes one number of
    with pytest.raises(ValueError, match="least_repeats must be at least 2; got 1"):
        longest_loop("a", least_repeats=1)


def test_phrases_are_found_longest_first_as_whole_words_and_not_where_they_were_said() -> None:
    assert PHRASES.found("And THANKS, for watching. I'm not sure") == ["thanks for watching", "i m not sure"]
    assert PHRASES.found("thanks for watching", "he said thanks for watching me") == []
    assert PHRASES.found("thanksfor watching") == [] and PHRASES.found("") == []
    assert PHRASES.found("Whoa! Whoa!") == ["whoa"] and PHRASES.found("whoa", "whoa there") == []
    assert PHRASES.found("he said whoa") == []
    assert PHRASES.identity()["phrases"] == 4


def test_lists_load_from_csv_and_text_alike(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prediction,number of occurrences\n"thanks, all",12\nwhoa,3\n', encoding="utf-8")
    (tmp_path / "a.txt").write_text("# mine\nThanks all\n\nWhoa\nwhoa!\n", encoding="utf-8")
    first, second = load_phrases(tmp_path / "a.csv"), load_phrases(tmp_path / "a.txt")
    assert first.phrases == second.phrases == (("thanks", "all"), ("whoa",)) and first.sha256 == second.sha256
    for name, content in (("none.txt", b"# nothing\n"), ("bad.csv", b"\xff\xfe\x00")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"phrases must .*{name}"):
            load_phrases(tmp_path / name)
    with pytest.raises(ValueError, match=r"phrases must be a readable UTF-8 file; got .*absent\.txt"):
        load_phrases(tmp_path / "absent.txt")
