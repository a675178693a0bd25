"""Scores: what is counted, after which normalisation, and by whose map of spellings."""

from __future__ import annotations

import json
import math
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from empirical.recognition.words import load_spellings, normalise, normaliser_identity, word_errors

SENTENCES = st.lists(st.text(string.ascii_lowercase[:6], min_size=2, max_size=3), max_size=8).map(" ".join)


@settings(deadline=None, max_examples=60)
@given(SENTENCES, SENTENCES)
def test_counts_obey_the_identities_of_an_alignment(reference: str, hypothesis: str) -> None:
    errors = word_errors(reference, hypothesis)
    said, wrote = normalise(reference).split(), normalise(hypothesis).split()
    assert errors.reference_words == len(said)
    assert errors.insertions - errors.deletions == len(wrote) - len(said)
    if said:
        wrong = errors.substitutions + errors.deletions + errors.insertions
        assert errors.wer == wrong / len(said) and wrong <= max(len(said), len(wrote))
        assert errors.insertion_rate == errors.insertions / len(said)
        assert (errors.wer == 0) == (said == wrote)
    else:
        assert math.isnan(errors.wer) and math.isnan(errors.insertion_rate) and errors.reason == "empty_reference"


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=20))
def test_no_text_breaks_the_normaliser(text: str) -> None:
    assert normalise(text) == " ".join(normalise(text).split())


def test_a_map_of_spellings_changes_scores_and_identity(tmp_path: Path) -> None:
    path = tmp_path / "normalizer.json"
    path.write_text(json.dumps({"colour": "color"}))
    spellings = load_spellings(path)
    assert word_errors("my colour", "my color").wer == 0.5
    assert word_errors("my colour", "my color", spellings).wer == 0.0
    plain, mapped = normaliser_identity(), normaliser_identity(spellings)
    assert plain["spelling_map"] == "empty" and mapped["spelling_map"] == "normalizer.json"
    assert plain["spelling_map_sha256"] != mapped["spelling_map_sha256"]
    assert plain["alignment"].startswith("jiwer ") and plain["code_sha256"] == mapped["code_sha256"]


@pytest.mark.parametrize("content", [b"{", b"[1]", b'{"a": 1}', b"\xff\xfe\x00"])
def test_a_map_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "map.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"spellings must be .*map\.json"):
        load_spellings(tmp_path / "map.json")
