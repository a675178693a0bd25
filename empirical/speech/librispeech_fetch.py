"""`spi data fetch librispeech`: archives fetched, unpacked beside each other, and each subset put in place at once."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from empirical.speech.fetch import FetchError, Patience, Progress, fetch, require_address
from empirical.speech.librispeech import FOLDER, MIRRORS, SUBSETS, Subset, SubsetCheck, check_subset
from empirical.speech.receipt import Receipt, receipt_path, write_receipt
from empirical.speech.unpack import Unpacked, UnpackError, unpack

_OVERHEAD_BYTES = 64 << 20
_SCRATCH = ".tmp"

_OURS = "archive fetched"
"""Noted while the archive in place is one that was fetched here, and is not the user's own: it outlives a kill."""


@dataclass(frozen=True, slots=True)
class FetchPlan:
    """What fetching would take.

    Attributes:
        subset: name.
        there: the subset is in place already, and whole as far as lengths tell.
        archive_bytes: still to come over the network.
        disk_bytes: needed at most while it is unpacked: what is still to come of the archive, and its content.
    """

    subset: str
    there: bool
    archive_bytes: int
    disk_bytes: int


def plan_librispeech(names: Sequence[str], out: Path) -> tuple[FetchPlan, ...]:
    """Say what `fetch_librispeech` would take; nothing is written and nobody is asked.

    Raises:
        ValueError: for a name that is no subset.
    """
    plans = []
    for subset in _subsets(names):
        archive = out / f"{subset.name}.tar.gz"
        there = _in_place(subset, out) is not None
        coming = max(0, subset.archive_bytes - max(_length(archive), _length(_part(archive))))
        coming = 0 if there else coming
        # FLAC does not compress: what comes out is as long as the archive, within a percent.
        plans.append(FetchPlan(subset.name, there, coming, 0 if there else coming + subset.archive_bytes))
    return tuple(plans)


def fetch_librispeech(
    names: Sequence[str],
    out: Path,
    *,
    mirrors: Sequence[str] = MIRRORS,
    keep_archives: bool = False,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> tuple[SubsetCheck, ...]:
    """Put subsets of LibriSpeech under `<out>/LibriSpeech`; one that is there and whole is left alone.

    Stopped at any moment, it goes on from where it was. An archive that lies in `out` already is used, if its MD5 is
    the published one, and stays there. `<out>/LibriSpeech/<subset>` is made by one rename, when it is whole.

    Args:
        names: of `librispeech.SUBSETS`.
        out: made where it is not there.
        mirrors: addresses under which the archives lie, in order of preference.
        keep_archives: leave the archives that were fetched.
        patience: with the servers.
        progress: called with what is being done, and bytes of bytes.

    Raises:
        ValueError: for a name that is no subset, or no mirror.
        FetchError: if an archive cannot be had; "not_whole" where a directory of that name is there and is not whole.
        UnpackError: if an archive would write what it must not.
        OSError: if `out` cannot be written.
    """
    if not mirrors:
        raise ValueError("mirrors must name at least one address; got none")
    for mirror in mirrors:
        require_address(mirror)
    subsets = _subsets(names)
    out.mkdir(parents=True, exist_ok=True)
    done = []
    for subset in subsets:
        with _alone(subset, out) as notes:
            done.append(_fetch_one(subset, out, notes, mirrors, keep_archives, patience, progress))
    return tuple(done)


def _fetch_one(
    subset: Subset,
    out: Path,
    notes: IO[str],
    mirrors: Sequence[str],
    keep_archive: bool,
    patience: Patience | None,
    progress: Progress | None,
) -> SubsetCheck:
    archive = out / f"{subset.name}.tar.gz"
    there = _in_place(subset, out)
    if there is not None:
        _tidy(archive, notes, keep_archive)
        return there
    ours = not archive.exists()
    _require_room(subset, out, subset.archive_bytes - _length(_part(archive)) if ours else 0)
    fetch(
        [f"{mirror.rstrip('/')}/{archive.name}" for mirror in mirrors],
        archive,
        size=subset.archive_bytes,
        md5=subset.archive_md5,
        patience=patience,
        progress=progress,
    )
    if ours:
        _note(notes, _OURS)
    with tempfile.TemporaryDirectory(prefix=f".{subset.name}.", suffix=_SCRATCH, dir=out) as scratch:
        most = 2 * subset.archive_bytes + _OVERHEAD_BYTES
        files = unpack(archive, Path(scratch), folder=FOLDER, most_bytes=most, progress=progress)
        _put_in_place(subset, Path(scratch) / FOLDER, out / FOLDER, files)
    _tidy(archive, notes, keep_archive)
    return check_subset(subset.name, out / FOLDER / subset.name)


def _put_in_place(subset: Subset, made: Path, home: Path, files: Sequence[Unpacked]) -> None:
    """The corpus's own text files first, then the receipt, and last the subset, whose rename makes it all count."""
    inside = f"{FOLDER}/{subset.name}/"
    own = tuple(
        Unpacked(one.path.removeprefix(inside), one.size, one.sha256) for one in files if one.path.startswith(inside)
    )
    if not own:
        raise UnpackError("damaged", f"{subset.name}.tar.gz: no file of {subset.name} in it")
    home.mkdir(exist_ok=True)
    for path in sorted(made.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            os.replace(path, home / path.name)
    receipt = made / ".receipt"
    write_receipt(receipt, Receipt(subset.archive_md5, own))
    os.replace(receipt, receipt_path(home, subset.name))
    os.rename(made / subset.name, home / subset.name)


def _in_place(subset: Subset, out: Path) -> SubsetCheck | None:
    """The check of a subset that is there; None where there is nothing of it."""
    directory = out / FOLDER / subset.name
    if not directory.exists():
        return None
    check = check_subset(subset.name, directory)
    if not check.whole:
        raise FetchError(
            "not_whole",
            f"{directory} is there and is not whole ({check.utterances} of {check.expected} utterances, "
            f"{len(check.extra)} files too many, {len(check.altered)} altered); move it away, or take another --out",
        )
    return check


@contextlib.contextmanager
def _alone(subset: Subset, out: Path) -> Iterator[IO[str]]:
    """Keeps a second fetch of a subset away, removes what a killed one left half unpacked, and holds its notes."""
    with open(out / f".{subset.name}.lock", "a+", encoding="utf-8") as handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # no such lock on this system: two fetches at once are the user's to avoid
            pass
        except OSError:
            raise FetchError("busy", f"{subset.name} is being fetched into {out} by another process") from None
        else:
            for left in out.glob(f".{subset.name}.*{_SCRATCH}"):
                shutil.rmtree(left, ignore_errors=True)
        yield handle


def _tidy(archive: Path, notes: IO[str], keep_archive: bool) -> None:
    """Remove the archive that was fetched for this; one of the user's own stays."""
    notes.seek(0)
    if notes.read() == _OURS and not keep_archive:
        archive.unlink(missing_ok=True)
    _note(notes, "")


def _note(notes: IO[str], text: str) -> None:
    notes.truncate(0)
    notes.write(text)
    notes.flush()


def _require_room(subset: Subset, out: Path, coming: int) -> None:
    """Room for what is still to come of the archive and for its content; FLAC does not compress."""
    needed, free = coming + subset.archive_bytes, shutil.disk_usage(out).free
    if needed > free:
        raise FetchError("no_space", f"{out} has {free} bytes free; {subset.name} needs {needed} while it is unpacked")


def _subsets(names: Sequence[str]) -> list[Subset]:
    unknown = [name for name in names if name not in SUBSETS]
    if unknown or not names:
        got = ", ".join(map(repr, unknown)) or "none"
        raise ValueError(f"subsets must be among {', '.join(SUBSETS)}; got {got}")
    return [SUBSETS[name] for name in dict.fromkeys(names)]


def _part(archive: Path) -> Path:
    return archive.with_name(archive.name + ".part")


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
