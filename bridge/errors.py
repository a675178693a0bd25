"""What `spi` says when it cannot go on: one line on stderr and a documented exit code."""

from __future__ import annotations

import os
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `spi` command; scripts rely on them, so a code is never given a second meaning."""

    OK = 0
    USAGE = 2
    NO_AUDIO = 3
    CHECKPOINT = 4
    OTHER_SETTINGS = 5
    SOME_FAILED = 6
    DATA = 7
    INTERRUPTED = 130


EXIT_CODES: dict[ExitCode, str] = {
    ExitCode.OK: "everything asked for was done",
    ExitCode.USAGE: "an option, a config key or an argument is wrong",
    ExitCode.NO_AUDIO: "no usable audio was found",
    ExitCode.CHECKPOINT: "a model could not be loaded",
    ExitCode.OTHER_SETTINGS: "the output directory belongs to another run or to something else, or cannot be written",
    ExitCode.SOME_FAILED: "the run finished, but some tasks failed while they were measured",
    ExitCode.DATA: "published data could not be fetched, or a data set is not whole",
    ExitCode.INTERRUPTED: "the run was interrupted; the same command goes on where it was",
}
"""What each exit code means, in the words the help and the README use."""


class SpiError(Exception):
    """A failure with a clear cause: its message is shown as it is, without a traceback.

    Attributes:
        exit_code: what the command exits with.
        verbatim: the message is printed alone, without the leading "spi: error:".
    """

    exit_code: ExitCode = ExitCode.USAGE
    verbatim: bool = False


class ConfigError(SpiError):
    """An option or a config key is unknown, of the wrong type or out of range."""


class NoUsableAudioError(SpiError):
    """No sample survived the audio gate, or the stresses."""

    exit_code = ExitCode.NO_AUDIO


class ModelError(SpiError):
    """A checkpoint could not be loaded; the message is the loader's own."""

    exit_code = ExitCode.CHECKPOINT

    def __init__(self, message: str, *, verbatim: bool = False) -> None:
        super().__init__(message)
        self.verbatim = verbatim


class OtherSettingsError(SpiError):
    """The output directory was made under other settings, is no run directory at all, or cannot be written."""

    exit_code = ExitCode.OTHER_SETTINGS


class DataError(SpiError):
    """Published data could not be had, or would have written what it must not."""

    exit_code = ExitCode.DATA


class NotMeasuredError(SpiError):
    """A model was loaded, and then nothing that means anything could be measured of it, or there was no memory."""

    exit_code = ExitCode.SOME_FAILED


class RunInterruptedError(SpiError):
    """The run was stopped by the user; what is finished is whole and stays."""

    exit_code = ExitCode.INTERRUPTED


def reason(error: OSError) -> str:
    """What the system says of an error, in its own few words: "No space left on device"."""
    return os.strerror(error.errno) if error.errno else str(error)
