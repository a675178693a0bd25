"""The material of an organism: sentences, voices, speech, features, tokens."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import WhisperTokenizer

from empirical.organism import render, tokens
from empirical.organism.corpus import render_clip
from empirical.organism.features import LogMel, make_feature_extractor, silence_value, white_noise_power
from empirical.organism.grammar import ENGLISH_66
from empirical.organism.recipe import HOP_LENGTH, RECIPES, SAMPLE_RATE_HZ, Recipe, find_recipe
from empirical.organism.render import Espeak, RenderError, finish
from empirical.organism.voices import ESPEAK_ENGLISH
from empirical.recognition.words import normalise
from tests.empirical.organism_fakes import CORPUS, RECIPE, SHAPE, ToneRenderer


def test_every_word_survives_normalisation_unchanged():
    assert len(ENGLISH_66.vocabulary) == 66
    assert [normalise(word) for word in ENGLISH_66.vocabulary] == list(ENGLISH_66.vocabulary)


def test_sentences_have_four_to_seven_words_of_the_vocabulary():
    rng = np.random.default_rng(0)
    vocabulary = set(ENGLISH_66.vocabulary)
    sentences = [ENGLISH_66.sentence(rng).split() for _ in range(500)]
    assert {len(words) for words in sentences} == {4, 5, 6, 7}
    assert all(set(words) <= vocabulary for words in sentences)


def test_splits_take_their_shares_and_never_meet():
    rng = np.random.default_rng(1)
    drawn = {ENGLISH_66.sentence(rng) for _ in range(6000)}
    share = np.mean([ENGLISH_66.split_of(sentence) == "held_out" for sentence in drawn])
    # 6 % of n distinct sentences, binomial: five standard deviations.
    assert abs(share - 0.06) < 5 * np.sqrt(0.06 * 0.94 / len(drawn))
    held_out = {ENGLISH_66.sentence_in("held_out", rng) for _ in range(50)}
    assert held_out.isdisjoint({ENGLISH_66.sentence_in("train", rng) for _ in range(500)})


def test_voices_kept_out_are_never_drawn_for_training():
    rng = np.random.default_rng(2)
    trained = [ESPEAK_ENGLISH.draw("trained", rng) for _ in range(2000)]
    assert {voice.accent for voice in trained} == set(ESPEAK_ENGLISH.accents)
    assert not {voice.accent for voice in trained} & set(ESPEAK_ENGLISH.unseen_accents)
    assert not {voice.variant for voice in trained} & set(ESPEAK_ENGLISH.unseen_variants)
    strange = ESPEAK_ENGLISH.draw("unseen_accent", rng)
    assert strange.accent in ESPEAK_ENGLISH.unseen_accents
    assert strange.variant in ESPEAK_ENGLISH.variants


def test_longest_clip_stretched_by_3_5_fits_the_window():
    for recipe in RECIPES.values():
        assert 3.5 * recipe.corpus.max_duration_s <= recipe.shape.window_s


def test_depth_and_width_are_crossed():
    wide, deep = RECIPES["organism-wide"].shape, RECIPES["organism-deep"].shape
    assert wide.d_model > deep.d_model
    assert wide.decoder_layers < deep.decoder_layers


def test_identity_changes_with_any_part_of_the_recipe():
    others = [
        replace(RECIPE, seed=4),
        replace(RECIPE, training=replace(RECIPE.training, weight_decay=0.06)),
        replace(RECIPE, corpus=replace(CORPUS, grammar=replace(CORPUS.grammar, patterns=("D N V",)))),
    ]
    assert len({recipe.identity for recipe in (RECIPE, *others)}) == 4
    assert replace(RECIPE).identity == RECIPE.identity


def test_unknown_recipe_is_refused_by_name():
    with pytest.raises(ValueError, match="organism must be one of organism-deep, organism-wide; got 'organism-tall'"):
        find_recipe("organism-tall")
    assert isinstance(find_recipe("organism-wide"), Recipe)


def test_missing_espeak_is_one_clear_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(render.shutil, "which", lambda _: None)
    with pytest.raises(RenderError) as caught:
        Espeak()
    assert str(caught.value) == "espeak-ng is not installed; it is needed to train: apt-get install espeak-ng"


def test_finish_trims_scales_and_rounds_to_16_bits():
    tone = np.sin(np.arange(8000) * 0.3).astype(np.float32) * 0.2
    samples = finish(np.concatenate([np.zeros(9000, np.float32), tone, np.zeros(9000, np.float32)]), SAMPLE_RATE_HZ)
    margin = int(0.04 * SAMPLE_RATE_HZ)
    assert abs(len(samples) - (8000 + 2 * margin)) <= 4  # the tone's first and last samples may be inaudible
    assert np.abs(samples).max() == pytest.approx(0.7, abs=1e-4)
    np.testing.assert_array_equal(np.round(samples * 32768.0) / 32768.0, samples)


def test_finish_resamples_to_the_same_duration():
    tone = np.sin(np.arange(22050) * 0.1).astype(np.float32)
    assert abs(len(finish(tone, 22050)) - SAMPLE_RATE_HZ) <= 0.005 * SAMPLE_RATE_HZ


def test_silence_cannot_be_finished():
    with pytest.raises(RenderError):
        finish(np.zeros(1000, np.float32), SAMPLE_RATE_HZ)


def test_a_clip_depends_on_its_index_alone():
    late_first = [render_clip(CORPUS, "train", "trained", index, ToneRenderer()) for index in (7, 3)]
    in_order = [render_clip(CORPUS, "train", "trained", index, ToneRenderer()) for index in range(8)]
    for clip, again in zip(late_first, (in_order[7], in_order[3]), strict=True):
        assert (clip.text, clip.voice) == (again.text, again.voice)
        np.testing.assert_array_equal(clip.samples, again.samples)


def test_a_corpus_in_which_nothing_is_short_enough_is_refused():
    with pytest.raises(RenderError, match=r"lasts at most 0\.01 s"):
        render_clip(replace(CORPUS, max_duration_s=0.01), "train", "trained", 0, ToneRenderer())


@pytest.mark.parametrize("length", [1, 159, 160, 161, 4000, 35_200, 35_357])
def test_short_features_equal_the_extractors_to_rounding(length: int):
    # A matrix product of another width sums in another order; the sums are of positives, and the logarithm turns a
    # relative error of n eps into 0.11 n eps. Values are of order 1: four float32 eps.
    atol = 4 * torch.finfo(torch.float32).eps
    extractor = make_feature_extractor(RECIPES["organism-wide"].shape)
    rng = np.random.default_rng(length)
    samples = (rng.standard_normal(length) * np.linspace(0.0, 0.3, length)).astype(np.float32)
    samples[-1] = 0.5
    whole = extractor(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt").input_features[0]
    short = LogMel(extractor)(samples)
    torch.testing.assert_close(short, whole[:, : short.shape[1]], rtol=0.0, atol=atol)
    rest = whole[:, short.shape[1] :]
    torch.testing.assert_close(silence_value(short).expand_as(rest), rest, rtol=0.0, atol=atol)


def test_white_noise_power_is_that_of_unit_variance():
    log_mel = LogMel(make_feature_extractor(SHAPE))
    power = white_noise_power(log_mel, np.random.default_rng(0))
    # E |STFT|^2 of unit white noise is the window's energy, 150 for a Hann window of 400; mel bands add their weights.
    expected = 150.0 * make_feature_extractor(SHAPE).mel_filters.sum(axis=0)
    frames = power.shape[1]
    # Frames overlap by 60 %; a band holds at least one bin, of relative variance 1. Six standard deviations, 80 bands.
    tolerance = 6.0 * np.sqrt(2.5 / frames)
    np.testing.assert_allclose(power.mean(dim=1).numpy(), expected, rtol=tolerance)
    assert frames == pytest.approx(30.0 * SAMPLE_RATE_HZ / HOP_LENGTH, abs=10)


def test_tokenizer_says_every_word_back(tmp_path):
    rng = np.random.default_rng(4)
    sentences = [ENGLISH_66.sentence(rng) for _ in range(600)]
    tokenizer = tokens.build_tokenizer(sentences, 200, tmp_path)
    for sentence in sentences[:100]:
        assert tokenizer.decode(tokens.text_ids(tokenizer, sentence)) == " " + sentence
    mean = np.mean([len(tokens.text_ids(tokenizer, sentence)) for sentence in sentences])
    assert 5.0 < mean < 10.0
    special = [tokens.token_id(tokenizer, token) for token in tokens.SPECIAL_TOKENS]
    assert special == list(range(special[0], special[0] + len(special)))
    assert len(tokenizer) == special[-1] + 1
    assert tokens.prompt_ids(tokenizer) == tokenizer.prefix_tokens


def test_tokenizer_files_of_both_generations_agree(tmp_path):
    tokenizer = tokens.build_tokenizer(["the dog runs", "my cat sings"], 40, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    # transformers 4.57 fails on a list under this name, which 5 writes.
    assert "extra_special_tokens" not in json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer.json").unlink()
    old = WhisperTokenizer.from_pretrained(tmp_path)
    assert old(" the dog sings").input_ids == tokenizer(" the dog sings").input_ids


def test_special_token_that_is_not_known_is_refused(tmp_path):
    tokenizer = tokens.build_tokenizer(["the dog runs"], 30, tmp_path)
    with pytest.raises(ValueError, match=r"tokenizer must know <\|0\.00\|>"):
        tokens.token_id(tokenizer, "<|0.00|>")
