"""Settings of a run: the command line wins over the file, the file over the defaults, and nothing unknown passes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bridge.errors import ConfigError, ExitCode
from bridge.running.config import CONDITIONS, RunConfig, make_config


def _file(directory: Path, text: str) -> Path:
    path = directory / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_are_the_bundled_run() -> None:
    assert make_config() == RunConfig()
    assert RunConfig().model == () and RunConfig().audio is None
    assert RunConfig().conditions == CONDITIONS
    assert RunConfig().sequence_clips == 12 and RunConfig().dtype == "float32" and RunConfig().k == 8


def test_command_line_wins_over_file_over_default(tmp_path: Path) -> None:
    path = _file(tmp_path, "seed: 3\nlimit: 5\nsequence-clips: 2\nmodel: here\nconditions: [noise, clean]\n")
    config = make_config(path, {"seed": 7, "limit": None, "model": None})
    assert config.seed == 7
    assert config.limit == 5
    assert config.sequence_clips == 2
    assert config.model == ("here",)
    assert config.conditions == ("clean", "noise")
    assert config.k == RunConfig().k


def test_option_zero_and_false_are_values_not_absence(tmp_path: Path) -> None:
    path = _file(tmp_path, "sequence-clips: 2\nfull: true\nseed: 5\n")
    config = make_config(path, {"sequence_clips": 0, "full": False, "seed": 0})
    assert (config.sequence_clips, config.full, config.seed) == (0, False, 0)


def test_unknown_key_is_refused_with_its_name_and_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(_file(tmp_path, "sede: 3\n"))
    message = str(caught.value)
    assert "'sede'" in message and "\n" not in message
    for field in dataclasses.fields(RunConfig):
        assert field.name.replace("_", "-") in message
    assert caught.value.exit_code == ExitCode.USAGE == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("limit: ten", "limit must be a whole number of at least 1; got 'ten'"),
        ("limit: 0", "limit must be a whole number of at least 1; got 0"),
        ("seed: true", "seed must be a whole number of at least 0; got True"),
        ("k: 2.0", "k must be a whole number of at least 1; got 2.0"),
        ("workers: -1", "workers must be a whole number of at least 1; got -1"),
        ("full: 1", "full must be true or false; got 1"),
        ("dtype: float16", "dtype must be one of float32, float64; got 'float16'"),
        ("conditions: [clean, rain]", "conditions: a stressor must be one of"),
        ("conditions: clean,clean", "conditions must not name 'clean' twice"),
        ("conditions: []", "conditions must name at least one stress"),
        ("states: none,position", "states must be among position, sequence, frame, frames, or none; got 'none'"),
        ("position-clips: -1", "position-clips must be a whole number of at least 0; got -1"),
        ("batch: 0", "batch must be a whole number of at least 1; got 0"),
        ("long: crop", "long must be one of cut, chunk, refuse; got 'crop'"),
        ("conditions: noise:kind=folder", "noise-dir must be given for a condition of kind=folder"),
        ("manifest: m.jsonl", "manifest must come with audio, where its utterances lie; got 'm.jsonl' alone"),
        ("manifest: m\naudio: a\nconditions: clean", "conditions must not be given beside a manifest"),
        ("states: 3", "states must be text or a list of text; got 3"),
        ("model: ['']", "model must not be empty; got ['']"),
        ("seed:", "seed must have a value; got nothing"),
        ("audio: [a]", "audio must be text; got ['a']"),
        ("sequence-clips: 1\nsequence_clips: 2", "key 'sequence_clips' is given twice"),
        ("limit: 1\nlimit: 2", "key 'limit' is given twice"),
        ("seed: 9223372036854775808", "seed must be at most 2**63 - 1; got 9223372036854775808"),
        ("audio: ''", "audio must not be empty; got ''"),
        ("- a\n- b", "must hold a mapping of options; got list"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_bad_values_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(_file(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_become_canonical_and_ladders_become_conditions() -> None:
    config = make_config(None, {"conditions": "noise:snr_db=10/0, clean,stretch:rate=3.5,reverberation+noise"})
    assert set(config.conditions) == {"clean", "stretch", "noise:snr_db=10", "noise", "reverberation+noise"}
    assert config.conditions[0] == "clean" and make_config(None, {"conditions": config.conditions}) == config
    with pytest.raises(ConfigError, match="conditions must not name 'noise' twice"):
        make_config(None, {"conditions": "noise:snr_db=10/0,noise"})


def test_none_is_no_state_and_the_default_is_not() -> None:
    assert make_config(None, {"states": "none"}).states == ()
    assert make_config(None, {"states": ["none"]}).states == () != RunConfig().states


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        make_config(tmp_path / "absent.yaml")
    path = tmp_path / "binary.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="cannot be read"):
        make_config(path)


def test_empty_file_and_explicit_null_of_an_optional_key_mean_the_default(tmp_path: Path) -> None:
    assert make_config(_file(tmp_path, "")) == RunConfig()
    assert make_config(_file(tmp_path, "limit: null\n")) == RunConfig()


def test_order_of_conditions_does_not_make_another_run() -> None:
    assert make_config(None, {"conditions": "noise,clean"}) == make_config(None, {"conditions": "clean,noise"})


def test_conditions_are_those_the_stresses_know() -> None:
    from empirical.stress import STRESSORS

    assert CONDITIONS == STRESSORS


def test_what_the_parent_repeats_because_it_imports_no_torch_is_what_is_measured_with() -> None:
    from bridge.running import config, estimate, inputs
    from empirical import hearing
    from empirical.checkpoints import device
    from empirical.jacobians import measurement
    from empirical.recognition import transcribe, transcribe_windows
    from empirical.stress import Stretch

    assert set(config.STATES) == set(measurement.STATES)
    assert set(config.DEVICES) == set(device.DEVICES)
    assert set(config.TOKENS) == set(hearing.TOKENS_FROM) and set(config.LONG) == set(transcribe_windows.LONG)
    assert inputs.PROMPT_ROOM == transcribe.PROMPT_ROOM and Stretch().rate == estimate.STRETCH
