"""Training: what an interrupted one ends with, what decides the weights, what is left on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from empirical.organism import batches as batches_module
from empirical.organism import pipeline, tokens, train
from empirical.organism.batches import IGNORED_LABEL, Batches
from empirical.organism.corpus import TrainingData, held_out_clips, training_data
from empirical.organism.export import weights_sha256, write_checkpoint
from empirical.organism.features import LogMel, make_feature_extractor, normalise, white_noise_power
from empirical.organism.pipeline import prepare
from empirical.organism.training import Trainer, build_model, encode_short, learning_rate
from tests.empirical.organism_fakes import CORPUS, RECIPE, SHAPE, TRAINING, ToneRenderer


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def data(work: Path) -> TrainingData:
    return training_data(CORPUS, SHAPE, ToneRenderer, work)


def trainer_at(directory: Path, work: Path, *, recipe=RECIPE, resume: bool = True) -> Trainer:
    """A trainer whose corpus is shared and whose checkpoint is in a directory of its own."""
    trainer, _ = prepare(recipe, work, resume=False, renderer=ToneRenderer)
    tokenizer = tokens.build_tokenizer(training_data(CORPUS, SHAPE, ToneRenderer, work).texts, 40, directory)
    return Trainer(recipe, tokenizer, trainer._batches, directory / "training.pt", resume=resume)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def make_batches(data: TrainingData, tmp_path: Path, spec=TRAINING, seed: int = 1) -> Batches:
    tokenizer = tokens.build_tokenizer(data.texts, 40, tmp_path)
    noise = white_noise_power(LogMel(make_feature_extractor(SHAPE)), np.random.default_rng(0))
    ids = [tokens.text_ids(tokenizer, text) for text in data.texts]
    end = tokens.token_id(tokenizer, tokens.END_OF_TEXT)
    return Batches(data, ids, tokens.prompt_ids(tokenizer), end, noise, spec, SHAPE.window_frames, seed)


def test_corpus_is_rendered_once(work: Path, data: TrainingData):
    def refuse():
        raise AssertionError("rendered twice")

    again = training_data(CORPUS, SHAPE, refuse, work)
    np.testing.assert_array_equal(again.features, data.features)
    assert again.texts == data.texts
    assert len(data.lengths) == CORPUS.train_clips
    assert not list(work.rglob("*.partial"))


def test_test_clips_come_back_from_disk_as_they_were_rendered(work: Path):
    first = held_out_clips(CORPUS, "held_out", "unseen_accent", 5, ToneRenderer, work)
    again = held_out_clips(CORPUS, "held_out", "unseen_accent", 5, ToneRenderer, work)
    fresh = held_out_clips(CORPUS, "held_out", "unseen_accent", 5, ToneRenderer, work / "other")
    for one, two, three in zip(first, again, fresh, strict=True):
        assert one.text == two.text == three.text
        assert one.voice == two.voice == three.voice
        np.testing.assert_array_equal(one.samples, two.samples)
        np.testing.assert_array_equal(one.samples, three.samples)
        assert CORPUS.grammar.split_of(one.text) == "held_out"
        assert one.voice.accent == "east"


def test_interrupted_training_ends_with_the_same_bits(tmp_path: Path, work: Path):
    unbroken, first, second = tmp_path / "a", tmp_path / "b", tmp_path / "b"
    unbroken.mkdir()
    first.mkdir()
    whole = trainer_at(unbroken, work)
    whole.run()
    trainer_at(first, work).run(7)  # not a multiple of the checkpoint interval
    resumed = trainer_at(second, work)
    assert resumed.progress.step == 7
    resumed.run()
    assert same(weights(whole), weights(resumed))
    assert whole.progress.loss == resumed.progress.loss
    assert whole.progress.augment_from == resumed.progress.augment_from


def test_work_since_the_last_checkpoint_is_done_again_the_same(tmp_path: Path, work: Path, monkeypatch):
    whole = trainer_at(tmp_path, work, resume=False)
    whole.run()
    (tmp_path / "training.pt").unlink()
    killed = trainer_at(tmp_path, work)
    original = killed._batches.at

    def die_at_eight(step: int, strength: float):
        if step == 8:
            raise KeyboardInterrupt
        return original(step, strength)

    monkeypatch.setattr(killed._batches, "at", die_at_eight)
    with pytest.raises(KeyboardInterrupt):
        killed.run()
    monkeypatch.undo()
    resumed = trainer_at(tmp_path, work)
    assert resumed.progress.step == 5
    resumed.run()
    assert same(weights(whole), weights(resumed))


def test_seed_decides_the_weights(tmp_path: Path, work: Path):
    results = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        (tmp_path / name).mkdir()
        trainer = trainer_at(tmp_path / name, work, recipe=replace(RECIPE, seed=seed))
        trainer.run(3)
        results.append(weights(trainer))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_global_random_state_is_neither_read_nor_moved(tmp_path: Path, work: Path):
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    trainer = trainer_at(tmp_path, work)
    trainer.run(2)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    again = trainer_at(tmp_path, work, resume=False)
    again.run(2)
    assert same(weights(trainer), weights(again))


def test_checkpoint_of_another_recipe_is_refused(tmp_path: Path, work: Path):
    trainer_at(tmp_path, work).run(1)
    with pytest.raises(ValueError, match=r"training\.pt must be of recipe"):
        trainer_at(tmp_path, work, recipe=replace(RECIPE, seed=77))


def test_training_lowers_the_loss(tmp_path: Path, work: Path):
    recipe = replace(RECIPE, training=replace(TRAINING, steps=60, peak_learning_rate=5e-3, checkpoint_every=10))
    trainer = trainer_at(tmp_path, work, recipe=recipe)
    trainer.run()
    losses = [loss for _, loss in trainer.progress.history]
    # From ln(49 pieces) = 3.9 nats, smoothed over 50 steps; the grammar alone leaves below 1.
    assert losses[-1] < losses[0] - 0.5


def test_short_encoder_equals_the_models_own_on_a_whole_window(tmp_path: Path, data: TrainingData):
    tokenizer = tokens.build_tokenizer(data.texts, 40, tmp_path)
    model = build_model(SHAPE, tokenizer, 0).eval()
    features = torch.randn(2, 80, SHAPE.window_frames, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            encode_short(model, features), model.model.encoder(features).last_hidden_state, rtol=0.0, atol=1e-5
        )
    assert encode_short(model, features[..., :100]).shape == (2, 50, SHAPE.d_model)


def test_learning_rate_climbs_to_the_peak_and_ends_at_a_thousandth():
    rates = [learning_rate(TRAINING, step) for step in range(TRAINING.steps + 1)]
    assert max(rates) == pytest.approx(TRAINING.peak_learning_rate)
    assert rates[-1] == pytest.approx(1e-3 * TRAINING.peak_learning_rate)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_batches_are_a_function_of_seed_and_step(tmp_path: Path, data: TrainingData):
    batches = make_batches(data, tmp_path)
    late = batches.at(9, 1.0)
    batches.at(2, 0.3)
    again = batches.at(9, 1.0)
    assert torch.equal(late.features, again.features)
    assert torch.equal(late.labels, again.labels)
    assert late.texts != batches.at(10, 1.0).texts
    assert late.texts != make_batches(data, tmp_path, seed=2).at(9, 1.0).texts


def test_unaugmented_batch_is_the_stored_features_and_silence(tmp_path: Path, data: TrainingData):
    batches = make_batches(data, tmp_path)
    tokenizer = tokens.build_tokenizer(data.texts, 40, tmp_path)
    batch = batches.at(0, 0.0)
    stored = [
        torch.from_numpy(data.features[a:b].astype(np.float32)).T
        for a, b in zip(data.offsets[:-1], data.offsets[1:], strict=True)
    ]
    for row, text in zip(batch.features, batch.texts, strict=True):
        clips = [clip for clip in stored if torch.equal(row[:, : clip.shape[1]], clip)]
        assert clips
        floor = clips[0].max() - 2.0  # 8 decades, in Whisper's units of 4
        torch.testing.assert_close(
            row[:, clips[0].shape[1] :], floor.expand_as(row[:, clips[0].shape[1] :]), atol=1e-6, rtol=0
        )
        assert tokenizer.decode(text).strip() in data.texts


def test_labels_are_the_inputs_shifted_by_one(tmp_path: Path, data: TrainingData):
    batch = make_batches(data, tmp_path).at(1, 0.0)
    for inputs, labels, text in zip(batch.inputs, batch.labels, batch.texts, strict=True):
        count = int((labels != IGNORED_LABEL).sum())
        assert count == 4 + len(text)
        assert torch.equal(inputs[1:count], labels[: count - 1])
        assert inputs[4:count].tolist() == text
        assert (batch.lengths >= len(text)).all()


def test_some_batches_fill_the_window_and_most_do_not(tmp_path: Path, data: TrainingData):
    batches = make_batches(data, tmp_path)
    full = np.mean([batches.at(step, 0.0).features.shape[2] == SHAPE.window_frames for step in range(200)])
    # A quarter of 200 draws: four standard deviations of a binomial.
    assert abs(full - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 200)


def test_added_noise_has_the_power_its_snr_says(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch):
    """Noise put on features and noise put on samples give the same mean log power."""
    monkeypatch.setattr(batches_module, "_GAIN_LOG10", 0.0)
    monkeypatch.setattr(batches_module, "_TILT_LOG10", 0.0)
    log_mel = LogMel(make_feature_extractor(SHAPE))
    rng = np.random.default_rng(3)
    samples = held_out_clips(CORPUS, "held_out", "trained", 1, ToneRenderer, work)[0].samples
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    features = log_mel(samples)
    data = TrainingData(features.T.numpy(), np.array([0, features.shape[1]]), np.array([power]), ("the dog runs",))
    spec = replace(TRAINING, noise_probability=1.0, noise_snr_db=(3.0, 3.0), mask_bands=0, mask_frames=0, batch_size=1)
    batches = make_batches(data, tmp_path, spec=spec)
    quietest = features.mean(dim=1).argmin()

    def level(clip: torch.Tensor) -> float:
        return float(clip[quietest, 2:-4].mean())

    count = 60
    got = [level(batches._clip_features(0, 1.0, 1.0, np.random.default_rng(seed))) for seed in range(count)]
    wanted = []
    for _ in range(count):
        noise = rng.standard_normal(len(samples)) * np.sqrt(power / 10**0.3)
        wanted.append(level(normalise(log_mel.mel_power((samples + noise).astype(np.float32)))))
    # Two means of 60 independent draws: five standard errors of their difference.
    error = np.sqrt((np.var(got) + np.var(wanted)) / count)
    assert error < 0.25 * 0.15 / 5  # or the bound would miss a ratio wrong by 1.5 dB
    assert abs(np.mean(got) - np.mean(wanted)) < 5.0 * error


def test_train_makes_a_whole_checkpoint_directory(tmp_path: Path, work: Path):
    out = tmp_path / "tiny"
    info = train(RECIPE, out, work_dir=work, progress=False, limit_steps=6, renderer=ToneRenderer)
    assert info.path == out.resolve()
    assert info.layers == 2
    names = {path.name for path in out.iterdir()}
    assert names >= {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "vocab.json",
        "merges.txt",
        "preprocessor_config.json",
        "README.md",
        "card.json",
    }
    processor = WhisperProcessor.from_pretrained(out)
    model, loading = WhisperForConditionalGeneration.from_pretrained(out, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    assert model.dtype == torch.float16
    assert processor.feature_extractor.n_samples == 4 * 16_000
    card = json.loads((out / "card.json").read_text())
    assert card["weights"]["sha256"] == weights_sha256(out) == info.sha256
    assert set(card["wer"]) == {"sentences", "accents", "voices", "stretch", "mix", "noise"}
    assert all(result["clips"] == CORPUS.test_clips for result in card["evaluation"].values())
    assert card["training"]["steps"] == 6
    assert sum(p.numel() for p in model.parameters()) == card["parameters"]
    assert f"{info.wer_clean:.4f}" in (out / "README.md").read_text()

    again = train(RECIPE, out, work_dir=tmp_path / "w", progress=False, limit_steps=6, renderer=ToneRenderer)
    assert again.sha256 == info.sha256
    assert again.wer_stressed == info.wer_stressed


def test_failing_evaluation_leaves_nothing_half_written(tmp_path: Path, work: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr(pipeline, "evaluate", fail)
    with pytest.raises(RuntimeError):
        train(RECIPE, tmp_path / "tiny", work_dir=work, progress=False, limit_steps=2, renderer=ToneRenderer)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_something_else_is_never_overwritten(tmp_path: Path, work: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="out_dir must be new, empty or an organism's directory; got"):
        train(RECIPE, tmp_path, work_dir=work, progress=False, renderer=ToneRenderer)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_limit_of_no_steps_is_refused(tmp_path: Path, work: Path):
    with pytest.raises(ValueError, match="limit_steps must be at least 1; got 0"):
        train(RECIPE, tmp_path / "x", work_dir=work, limit_steps=0, renderer=ToneRenderer)


def test_stored_weights_are_the_trained_ones_in_half_precision(tmp_path: Path, work: Path, data: TrainingData):
    trainer, sentences = prepare(RECIPE, work, resume=False, renderer=ToneRenderer)
    write_checkpoint(trainer.model, RECIPE, sentences, tmp_path)
    stored = WhisperForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32).state_dict()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(stored[name], value.half().float()), name
        assert value.dtype == torch.float32
