"""Every class of coded errors: its text, its codes, and its way from a worker to the parent."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from empirical.checkpoints.errors import CheckpointError
from empirical.errors import CodedError
from empirical.recognition.reference import ReferenceTokensError
from empirical.recognition.transcribe_windows import ListeningError
from empirical.speech.audio import AudioError
from empirical.speech.fetch import FetchError
from empirical.speech.manifest_records import ManifestError
from empirical.speech.records import ClipError
from empirical.speech.unpack import UnpackError
from empirical.stress.errors import StressError

KINDS: dict[type[CodedError], type[Exception]] = {
    kind: builtin
    for builtin, kinds in (
        (
            ValueError,
            (
                AudioError,
                CheckpointError,
                ClipError,
                ListeningError,
                ManifestError,
                ReferenceTokensError,
                StressError,
                UnpackError,
            ),
        ),
        (OSError, (FetchError,)),
    )
    for kind in kinds
}
"""Each class, and the built-in error that callers may catch it as."""


def one(kind: type[CodedError], code: str) -> CodedError:
    return AudioError(code, Path("a.wav"), "words") if kind is AudioError else kind(code, "words")


def test_none_is_left_out() -> None:
    assert set(CodedError.__subclasses__()) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_says_its_code_and_crosses_processes_as_it_is(kind: type[CodedError]) -> None:
    for code in kind.CODES:
        error = one(kind, code)
        said = "a.wav: words" if kind is AudioError else "words"
        assert (error.code, error.message) == (code, said) and isinstance(error, KINDS[kind])
        assert str(error) == (said if kind is CheckpointError else f"{said} [{code}]")
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is kind and vars(again) == vars(error) and str(again) == str(error)


@pytest.mark.parametrize("kind", KINDS)
def test_a_code_that_its_class_does_not_have_cannot_be_raised(kind: type[CodedError]) -> None:
    with pytest.raises(KeyError, match=rf"code must be one of {kind.__name__}\.CODES; got 'nonsense'"):
        one(kind, "nonsense")
