"""A condition is a stress written down: one spelling each, ladders, compositions, one line for what is not one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from empirical.stress import (
    NAMES,
    STRESSORS,
    Clean,
    Clipping,
    Composition,
    Mix,
    Noise,
    NonSpeech,
    Reverberation,
    Silence,
    StressError,
    Stressor,
    Stretch,
    base_names,
    expand,
    label,
    order_key,
    parse,
    removes_speech,
    stressor,
)


def _number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_subnormal=False).map(lambda value: value + 0.0)


SINGLE: st.SearchStrategy[Stressor] = st.one_of(
    st.builds(Stretch, _number(1e-6, 1e6)),
    st.builds(Mix, st.integers(2, 100), _number(-60, 60)),
    st.builds(Noise, _number(-100, 100), st.sampled_from(["white", "pink", "folder"])),
    st.builds(Noise, _number(-100, 100), st.just("babble"), st.integers(1, 50)),
    st.builds(Silence, st.none() | _number(-200, 0)),
    st.builds(NonSpeech, st.sampled_from(["pink", "white", "folder"])),
    st.builds(Reverberation, _number(0.05, 10), _number(-40, 40)),
    st.builds(Clipping, _number(1e-9, 0.999)),
)
ANY: st.SearchStrategy[Stressor] = st.one_of(
    st.just(Clean()), SINGLE, st.lists(SINGLE, min_size=2, max_size=4).map(lambda parts: Composition(tuple(parts)))
)


@given(ANY)
def test_parse_undoes_label_and_a_label_is_its_own_expansion(kind: Stressor) -> None:
    text = label(kind)
    assert parse(text) == kind and label(parse(text)) == text and expand(text) == (text,)
    # Command lines take lists between commas; a ladder is no label; both hold for numbers like 1e+20, too.
    assert not set(text) & set(",/ ")


@given(ANY)
def test_names_and_speech_are_those_of_the_parts(kind: Stressor) -> None:
    parts = kind.parts if isinstance(kind, Composition) else (kind,)
    assert base_names(label(kind)) == tuple(part.name for part in parts)
    assert removes_speech(label(kind)) == any(isinstance(part, (Silence, NonSpeech)) for part in parts)


@given(st.lists(ANY, min_size=2, max_size=6))
def test_order_is_total_and_tells_conditions_apart(kinds: list[Stressor]) -> None:
    labels = [label(kind) for kind in kinds]
    keys = [order_key(each) for each in labels]
    sorted(keys)  # type: ignore[type-var]  # would raise if two could not be compared
    assert [a == b for a in keys for b in keys] == [a == b for a in labels for b in labels]


def test_defaults_have_bare_names_and_names_give_the_paper_s_parameters() -> None:
    assert tuple(stressor(name) for name in STRESSORS) == (Clean(), Stretch(3.5), Mix(6), Noise(0.0))
    assert all(label(parse(name)) == name for name in NAMES)
    assert label(parse("noise:snr_db=0:kind=white")) == "noise"
    assert label(parse("noise:kind=pink:snr_db=5.0")) == "noise:snr_db=5:kind=pink"
    assert label(parse("stretch:rate=2.50")) == "stretch:rate=2.5"
    assert label(parse("noise:snr_db=-0")) == "noise"
    assert label(parse("clean+noise")) == "noise" and label(parse("clean+clean")) == "clean"
    assert label(parse("silence:level_dbfs=none")) == "silence"


def test_a_ladder_is_a_condition_for_each_rung() -> None:
    assert expand("noise:snr_db=20/10/0/-10") == ("noise:snr_db=20", "noise:snr_db=10", "noise", "noise:snr_db=-10")
    assert expand("silence:level_dbfs=none/-60") == ("silence", "silence:level_dbfs=-60")
    assert expand("stretch:rate=2/2.0/3.5") == ("stretch:rate=2", "stretch")
    two = expand("reverberation:rt60_s=0.3/1+noise:snr_db=5/0")
    assert two == (
        "reverberation:rt60_s=0.3+noise:snr_db=5",
        "reverberation:rt60_s=0.3+noise",
        "reverberation:rt60_s=1+noise:snr_db=5",
        "reverberation:rt60_s=1+noise",
    )


def test_order_is_clean_stretch_mix_noise_then_others_parameters_ascending() -> None:
    wanted = [
        "clean",
        "stretch:rate=2",
        "stretch",
        "mix",
        "noise:snr_db=-10",
        "noise",
        "noise:snr_db=5",
        "noise:snr_db=10",
        "silence",
        "silence:level_dbfs=-60",
        "non_speech",
        "reverberation",
        "clipping",
        "stretch+noise",
        "reverberation+noise",
    ]
    mixed = wanted[1::2] + wanted[::2]
    assert sorted(mixed, key=order_key) == wanted


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("echo", "unknown_stressor", "must be one of clean, stretch, .*; got 'echo'"),
        ("", "unknown_stressor", "got ''"),
        ("noise+", "unknown_stressor", "got ''"),
        ("Noise", "unknown_stressor", "got 'Noise'"),
        ("noise,mix", "unknown_stressor", "got 'noise,mix'"),
        ("noise:colour=red", "bad_parameter", "of noise must be among snr_db, kind, talkers; got 'colour'"),
        ("clean:snr_db=1", "bad_parameter", "must be among none at all; got 'snr_db'"),
        ("noise:snr_db", "bad_parameter", "key=value, each key once; got 'snr_db'"),
        ("noise:snr_db=1:snr_db=2", "bad_parameter", "each key once; got 'snr_db=2'"),
        ("noise:snr_db=loud", "bad_parameter", "snr_db of noise must be a number; got 'loud'"),
        ("noise:snr_db=1_0", "bad_parameter", "must be a number; got '1_0'"),
        ("noise:snr_db=nan", "bad_parameter", "must be a number; got 'nan'"),
        ("noise:snr_db=1e999", "bad_parameter", "snr_db must be finite; got inf"),
        ("noise:snr_db=300", "bad_parameter", "lie in -100 to 100; got 300"),
        ("noise:snr_db=1/2", "bad_parameter", "one value, not a ladder; got '1/2'"),
        ("noise:kind=red", "bad_parameter", "be one of white, pink, babble, folder; got red"),
        ("noise:talkers=3", "bad_parameter", "left out unless kind=babble; got 3"),
        ("mix:speakers=2.5", "bad_parameter", "speakers of mix must be a whole number; got '2.5'"),
        ("mix:speakers=1", "bad_parameter", "at least 2"),
        ("mix:level_db=100", "bad_parameter", "level_db must lie in -60 to 60; got 100"),
        ("stretch:rate=0", "bad_parameter", "rate must be positive and finite; got 0"),
        ("stretch:rate=none", "bad_parameter", "must be a number; got 'none'"),
        ("silence:level_dbfs=3", "bad_parameter", "be none or lie in -200 to 0; got 3"),
        ("non_speech:kind=babble", "bad_parameter", "kind must be one of pink, white, folder; got babble"),
        ("reverberation:rt60_s=0", "bad_parameter", "rt60_s must lie in 0.05 to 10; got 0"),
        ("reverberation:drr_db=90", "bad_parameter", "drr_db must lie in -40 to 40; got 90"),
        ("clipping:fraction=1", "bad_parameter", "fraction must lie between 0 and 1; got 1"),
    ],
)
def test_what_is_no_condition_is_one_clear_line(text: str, code: str, message: str) -> None:
    with pytest.raises(StressError, match=message) as caught:
        parse(text)
    assert caught.value.code == code and "\n" not in str(caught.value)


def test_ladders_and_compositions_have_limits() -> None:
    steps = "/".join(str(n) for n in range(100))
    with pytest.raises(StressError, match=r"1000 conditions at most; got 10000"):
        expand(f"noise:snr_db={steps}+noise:snr_db={steps}")
    with pytest.raises(StressError, match="parts must be two or more; got 1"):
        Composition((Noise(),))
    with pytest.raises(StressError, match="parts must be neither clean nor compositions"):
        Composition((Noise(), Clean()))
