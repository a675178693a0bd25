"""What is shipped: two organisms and two dozen clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from empirical.organism import (
    RECIPES,
    CorpusSpec,
    find_recipe,
    list_organisms,
    organism_path,
    read_organism,
    write_held_out_clips,
)
from empirical.organism.bundle import BUNDLED
from empirical.organism.card import readme
from empirical.organism.evaluate import score, transcribe_all
from empirical.organism.export import weights_sha256
from empirical.organism.grammar import ENGLISH_66
from empirical.organism.heldout import SPEAKERS
from empirical.speech.audio import load_audio
from empirical.speech.clips import bundled_clips, find_clips
from empirical.stress import apply, stressor
from tests.empirical.organism_fakes import CORPUS, ToneRenderer

NAMES = ["organism-deep", "organism-wide"]
LARGEST_BYTES = 12_000_000


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=NAMES)
def directory(request: pytest.FixtureRequest) -> Path:
    return organism_path(request.param)


def test_list_names_both_with_absolute_paths_and_all_error_rates():
    organisms = list_organisms()
    assert [organism.name for organism in organisms] == NAMES
    for organism in organisms:
        assert organism.path.is_absolute()
        assert (organism.path / "config.json").is_file()
        assert set(organism.wer_stressed) == {"stretch", "mix", "noise"}


def test_error_rates_are_within_what_was_asked():
    for organism in list_organisms():
        assert organism.wer_clean <= 0.02
        assert organism.wer_unseen_accents <= 0.06
        assert organism.wer_unseen_voices <= 0.06
        assert min(organism.wer_stressed.values()) > 5 * organism.wer_clean


def test_all_assets_fit_the_limit():
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) <= LARGEST_BYTES


def test_card_describes_the_weights_beside_it(directory: Path):
    card = json.loads((directory / "card.json").read_text())
    info = read_organism(directory)
    assert info.sha256 == weights_sha256(directory)
    assert card["weights"]["bytes"] == (directory / "model.safetensors").stat().st_size
    assert (directory / "README.md").read_text() == readme(card)


def test_bundled_organism_is_what_its_recipe_in_the_repository_says(directory: Path):
    card = json.loads((directory / "card.json").read_text())
    recipe = find_recipe(directory.name)
    assert card["recipe_identity"] == recipe.identity
    assert card["recipe"] == recipe.to_dict()
    assert card["training"]["steps"] == recipe.training.steps
    config = json.loads((directory / "config.json").read_text())
    assert config["d_model"] == recipe.shape.d_model
    assert config["decoder_layers"] == recipe.shape.decoder_layers
    assert config["max_source_positions"] == recipe.shape.source_positions


def test_stored_weights_transcribe_the_bundled_clips(directory: Path):
    processor = WhisperProcessor.from_pretrained(directory)
    model, loading = WhisperForConditionalGeneration.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True
    )
    assert not any(loading.values())
    clips = bundled_clips()
    result = score(
        [clip.reference or "" for clip in clips],
        transcribe_all(model.eval(), processor, [load_audio(clip.path) for clip in clips]),
    )
    # 24 clips, half in voices never trained on: at most .06 of about 130 words.
    assert result.wer <= 0.06
    assert result.empty == 0


def test_there_are_24_clips_of_12_speakers_half_of_them_strangers():
    clips = bundled_clips()
    assert len(clips) == 24
    assert {clip.speaker for clip in clips} == {str(speaker) for speaker in SPEAKERS}
    trained = CorpusSpec().voices
    for group, voice in SPEAKERS.values():
        assert (voice.accent in trained.accents) == (group != "unseen_accent")
        assert (voice.variant in trained.variants) == (group != "unseen_variant")
    assert sum(group == "trained" for group, _ in SPEAKERS.values()) == 6


def test_bundled_sentences_were_held_out_and_differ():
    sentences = [(clip.reference or "").lower() for clip in bundled_clips()]
    assert len(set(sentences)) == 24
    assert {ENGLISH_66.split_of(sentence) for sentence in sentences} == {"held_out"}


def test_every_clip_is_16_khz_flac_and_fits_the_window_when_stretched():
    window_s = min(recipe.shape.window_s for recipe in RECIPES.values())
    for clip in bundled_clips():
        facts = soundfile.info(clip.path)
        assert (facts.format, facts.samplerate, facts.channels) == ("FLAC", 16_000, 1)
        longer = apply(stressor("stretch"), load_audio(clip.path), utterance=clip.name, seed=0)
        assert len(longer.samples) <= window_s * 16_000


def test_transcripts_are_lines_of_librispeech():
    for path in (BUNDLED / "clips").rglob("*.trans.txt"):
        for line in path.read_text().splitlines():
            name, _, text = line.partition(" ")
            assert (path.parent / f"{name}.flac").is_file()
            assert text == text.upper()
    table = (BUNDLED / "clips" / "SPEAKERS.TXT").read_text().splitlines()
    assert {int(line.split("|")[0]) for line in table if not line.startswith(";")} == set(SPEAKERS)


def test_fewer_clips_are_the_first_of_more(tmp_path: Path):
    for count in (5, 20):
        write_held_out_clips(tmp_path / str(count), count, spec=CORPUS, renderer=ToneRenderer())
    few, many = find_clips(tmp_path / "5"), {clip.name: clip for clip in find_clips(tmp_path / "20")}
    assert len(few) == 5
    assert len(many) == 20
    assert len({clip.reference for clip in many.values()}) == 20
    for clip in few:
        assert clip.reference == many[clip.name].reference
        assert clip.path.read_bytes() == many[clip.name].path.read_bytes()


def test_clips_never_replace_something_else(tmp_path: Path):
    (tmp_path / "keep.txt").write_text("x")
    with pytest.raises(ValueError, match="directory must be new, empty or hold clips already"):
        write_held_out_clips(tmp_path, 2, spec=CORPUS, renderer=ToneRenderer())
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]
    with pytest.raises(ValueError, match="count must be at least 1; got 0"):
        write_held_out_clips(tmp_path / "new", 0, spec=CORPUS, renderer=ToneRenderer())


def test_unknown_organism_and_foreign_directory_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="organism must be one of organism-deep, organism-wide; got 'whisper'"):
        organism_path("whisper")
    with pytest.raises(ValueError, match=r"an organism's directory must hold a readable card\.json; got"):
        read_organism(tmp_path)
