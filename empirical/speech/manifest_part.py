"""Outcomes of a long build, kept while it is at work: one line an utterance, so that an interrupted build goes on.

A part's first line says of what work it is. A part of other work, or of other files, is begun anew; a line that an
interruption cut in half is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from empirical.speech.manifest_records import ManifestError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one utterance.

    Attributes:
        utterance: its id.
        lines: of the manifest, without "line" and "lines".
        refused: of the quarantine.
    """

    utterance: str
    lines: list[dict[str, Any]]
    refused: list[dict[str, Any]]


class Part:
    """An open part; `open_part` makes it."""

    def __init__(self, file: BinaryIO, work: str) -> None:
        self._file = file
        self._header = _line({"part_of": work})

    def keep(self, utterances: Sequence[str], whole: Callable[[Outcome], bool]) -> int:
        """How many of the utterances, from the first on, are done; what is behind them is dropped.

        Args:
            utterances: all that are to be done, in order.
            whole: whether what an outcome speaks of is still there.
        """
        self._file.seek(0)
        end = 0
        kept = 0
        if self._file.readline() == self._header:
            end = len(self._header)
            for utterance, (outcome, size) in zip(utterances, self._read(), strict=False):
                if outcome.utterance != utterance or not whole(outcome):
                    break
                end += size
                kept += 1
        self._file.truncate(end)
        self._file.seek(end)
        if end == 0:
            self._file.write(self._header)
        return kept

    def append(self, outcome: Outcome) -> None:
        """Write one more outcome, to the end of its line or, if that fails, for nothing."""
        content = {"utterance": outcome.utterance, "lines": outcome.lines, "refused": outcome.refused}
        self._file.write(_line(content))
        self._file.flush()

    def outcomes(self) -> Iterator[Outcome]:
        """All outcomes, in the order they were made."""
        self._file.seek(len(self._header))
        for outcome, _ in self._read():
            yield outcome

    def _read(self) -> Iterator[tuple[Outcome, int]]:
        """Outcomes with the bytes of their lines, up to the first that is not whole."""
        while (raw := self._file.readline()).endswith(b"\n"):
            try:
                row = json.loads(raw)
                yield Outcome(row["utterance"], row["lines"], row["refused"]), len(raw)
            except (ValueError, TypeError, KeyError):
                return


@contextlib.contextmanager
def open_part(path: Path, work: str) -> Iterator[Part]:
    """A part to go on with, locked; removed when the block ends well, kept when it does not.

    Args:
        path: of the part.
        work: a digest of all that decides the outcomes.

    Raises:
        ManifestError: "busy" if another process is at work on it.
        OSError: if it cannot be written.
    """
    with open(path, "a+b"):  # makes it without emptying it
        pass
    with open(path, "r+b") as file:
        _lock(file, path)
        part = Part(file, work)
        try:
            yield part
        except BaseException:
            if next(part.outcomes(), None) is None:
                path.unlink(missing_ok=True)
            raise
        path.unlink(missing_ok=True)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such lock on this system: two builds at once are the user's to avoid
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        same = path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        same = False
    if not same:  # its owner holds it, or has just finished and removed it
        raise ManifestError("busy", f"{path} is being written by another process")


def _line(content: dict[str, Any]) -> bytes:
    return (json.dumps(content, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n").encode("utf-8")
