"""One published file, taken over HTTP: resumed where it was broken off, believed only when its MD5 is the publisher's.

The server is trusted with nothing: not with the length it announces, not with answering the range that was asked for,
not with going on. What has arrived is kept beside the target as `<name>.part`, so that any later call goes on from it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from empirical.errors import CodedError

Progress = Callable[[str, int, int], None]
"""Called with what is being done ("download", "check", "unpack"), and bytes done of bytes in all."""

_CHUNK = 1 << 20
_LONGEST_PAUSE_S = 60.0
_AGENT = "spi (speech data; resumes with Range)"


class FetchError(CodedError, OSError):
    """A file that could not be had whole."""

    CODES = MappingProxyType(
        {
            "bad_address": "an address that is not http or https",
            "no_server": "no server gave the whole file; the message says what each did",
            "wrong_sum": "the whole file came, and is not the published one",
            "busy": "another process is fetching the same file",
            "no_space": "the disk has not room for it",
            "unwritable": "the target cannot be written",
            "not_whole": "what is there already is not what was published",
        }
    )


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        attempts: failures in a row, none of which brought what `slowest_bytes_s` asks, after which it is given up.
        silence_s: longest wait for the next byte, seconds.
        slowest_bytes_s: rate below which, over `silence_s`, a server counts as silent, bytes a second.
        pause_s: wait after the first failure, seconds; doubled after each further one, up to a minute.
    """

    attempts: int = 6
    silence_s: float = 30.0
    slowest_bytes_s: float = 1000.0
    pause_s: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError(f"attempts must be at least 1; got {self.attempts}")
        if not self.silence_s > 0:
            raise ValueError(f"silence_s must be positive; got {self.silence_s}")
        if self.slowest_bytes_s < 0 or self.pause_s < 0:
            raise ValueError(
                f"slowest_bytes_s and pause_s must not be negative; got {self.slowest_bytes_s}, {self.pause_s}"
            )


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    size: int,
    md5: str,
    patience: Patience | None = None,
    progress: Progress | None = None,
) -> int:
    """Have `target` hold the published bytes; it is there whole and checked, or not there at all.

    Args:
        urls: addresses of the same file, the first one preferred; another one is gone on from where it stopped.
        target: the file; one that is there already is checked and not fetched.
        size: published length, bytes.
        md5: published MD5, 32 lower-case hexadecimal digits.

    Returns:
        Bytes that came over the network; 0 where the file was there already.

    Raises:
        FetchError: with one of `FetchError.CODES`.
    """
    patience = patience or Patience()
    report = progress or _silent
    for url in urls:
        require_address(url)
    if target.exists():
        _verify_present(target, size, md5, report)
        return 0
    part = target.with_name(target.name + ".part")
    with _locked(part, target) as handle:
        if handle is None:  # another process has finished it between the look and the lock
            _verify_present(target, size, md5, report)
            return 0
        needed, free = size - os.fstat(handle.fileno()).st_size, shutil.disk_usage(part.parent).free
        if needed > free:
            raise FetchError("no_space", f"{part.parent} has {free} bytes free, {target.name} needs {needed} more")
        received = _Receiver(handle, part, size, patience, report).fill(list(urls), md5)
        os.replace(part, target)
    return received


def require_address(url: str) -> None:
    """Refuse what is not an address of the web.

    Raises:
        FetchError: "bad_address".
    """
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise FetchError("bad_address", f"an address must begin with http:// or https://; got {url!r}")


def file_md5(path: Path, progress: Progress | None = None) -> str:
    """MD5 of a file's bytes, hexadecimal. The publisher's own sum is an MD5; nothing here relies on its strength."""
    with open(path, "rb") as file:
        return _md5(file, progress or _silent)


class _TroubleError(Exception):
    """What a server did instead of sending the bytes that were asked for."""

    def __init__(self, what: str, *, for_good: bool = False) -> None:
        super().__init__(what)
        self.for_good = for_good


class _Receiver:
    """Fills one open file from several servers."""

    def __init__(self, handle: IO[bytes], part: Path, size: int, patience: Patience, report: Progress) -> None:
        self._handle = handle
        self._part = part
        self._size = size
        self._patience = patience
        self._report = report
        self._have = handle.seek(0, os.SEEK_END)
        self._received = 0
        self._plain: set[str] = set()  # servers that cannot be asked for a range
        self._sources: set[str] = set() if self._have == 0 else {"an earlier call"}

    def fill(self, urls: list[str], md5: str) -> int:
        """Bytes received until the file was whole and right; raises `FetchError` if it will not be."""
        troubles: dict[str, str] = {}
        restarts = len(urls) + 1
        while True:
            self._complete(urls, troubles)
            self._handle.flush()
            self._handle.seek(0)
            found = _md5(self._handle, self._report)
            if found == md5:
                os.fsync(self._handle.fileno())
                return self._received
            # Of several sources, none can be blamed; each gets the whole file to send once more.
            if len(self._sources) == 1:
                (culprit,) = self._sources
                urls = [url for url in urls if url != culprit]
            restarts -= 1
            self._keep(0)
            if not urls or restarts < 0:
                name = self._part.name.removesuffix(".part")
                raise FetchError("wrong_sum", f"{name}: what came has MD5 {found}, the published one {md5}")

    def _complete(self, urls: list[str], troubles: dict[str, str]) -> None:
        """Receive until the file has its length; the servers take turns, and one that is of no use is left out."""
        if self._have > self._size:
            self._keep(0)
        queue, failures = list(urls), 0
        while self._have < self._size:
            url, before, begun = queue[0], self._have, time.monotonic()
            try:
                self._receive(url)
                continue
            except _TroubleError as trouble:
                troubles[url] = str(trouble)
                queue.pop(0)
                if not trouble.for_good:
                    queue.append(url)
            # One that sends a few bytes and hangs up, again and again, would be waited for until the end of days.
            waited = time.monotonic() - begun + self._patience.pause_s
            moved = self._have - before >= max(1.0, self._patience.slowest_bytes_s * waited)
            failures = 0 if moved else failures + 1
            if not queue or failures >= self._patience.attempts:
                said = "; ".join(f"{url}: {what}" for url, what in troubles.items())
                raise FetchError("no_server", f"{self._have} of {self._size} bytes came and are kept: {said}")
            time.sleep(min(self._patience.pause_s * 2 ** max(0, failures - 1), _LONGEST_PAUSE_S))

    def _receive(self, url: str) -> None:
        """One request; returns when the file has its length."""
        headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity"}
        if self._have and url not in self._plain:
            headers["Range"] = f"bytes={self._have}-"
        try:
            with _opener().open(
                urllib.request.Request(url, headers=headers), timeout=self._patience.silence_s
            ) as response:
                position = self._first_byte(response, url)
                self._sources.add(url)
                self._copy(response, position)
        except urllib.error.HTTPError as error:
            error.close()
            gone = 400 <= error.code < 500 and error.code not in (408, 416, 425, 429)
            if error.code == 416:
                self._plain.add(url)
            raise _TroubleError(f"status {error.code} {error.reason}", for_good=gone) from None
        except TimeoutError:
            raise _TroubleError(f"silent for {self._patience.silence_s:g} s") from None
        except urllib.error.URLError as error:
            raise _TroubleError(str(error.reason)) from None
        except FetchError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _TroubleError(str(error) or type(error).__name__) from None

    def _first_byte(self, response: Any, url: str) -> int:
        """Where in the file the answer begins; a server may ignore the range and send everything again."""
        length = response.headers.get("Content-Length", "")
        if response.status == 206:
            span = response.headers.get("Content-Range", "")
            begin, _, total = span.removeprefix("bytes ").partition("/")
            begin = begin.partition("-")[0]
            if begin != str(self._have):
                self._plain.add(url)
                raise _TroubleError(f"asked for the bytes from {self._have}, it answers with {span!r}")
            if total not in ("*", str(self._size)):
                raise _TroubleError(f"its file has {total} bytes, the published one {self._size}")
            return self._have
        if response.status != 200:
            raise _TroubleError(f"status {response.status}")
        if length and length != str(self._size):
            raise _TroubleError(f"its file has {length} bytes, the published one {self._size}")
        return 0

    def _copy(self, response: Any, position: int) -> None:
        # read1 and not read: what has come is written down before the next wait.
        self._handle.seek(position)
        begun = position
        since, at = time.monotonic(), position
        while True:
            chunk = response.read1(_CHUNK)
            if not chunk:
                break
            if position + len(chunk) > self._size:
                self._keep(begun)
                raise _TroubleError(f"sends more than the published {self._size} bytes")
            try:
                self._handle.write(chunk)
                self._handle.flush()
            except OSError as error:
                code = "no_space" if error.errno == errno.ENOSPC else "unwritable"
                raise FetchError(code, f"{self._part}: {error.strerror or error}") from error
            position += len(chunk)
            self._received += len(chunk)
            if position > self._have:
                self._have = position
                self._report("download", self._have, self._size)
            now = time.monotonic()
            if now - since > self._patience.silence_s:
                if position - at < self._patience.slowest_bytes_s * (now - since):
                    raise _TroubleError(f"sends less than {self._patience.slowest_bytes_s:g} bytes a second")
                since, at = now, position
        if position < self._size:
            raise _TroubleError(f"broke off at {position} of {self._size} bytes")

    def _keep(self, count: int) -> None:
        """Keep only so many bytes of what has come."""
        self._handle.seek(count)
        self._handle.truncate(count)
        self._have = count
        if not count:
            self._sources.clear()


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS alone: no redirect leads to a local file or another protocol."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
    ):
        opener.add_handler(handler)
    return opener


def _verify_present(target: Path, size: int, md5: str, report: Progress) -> None:
    found = file_md5(target, report) if target.stat().st_size == size else f"{target.stat().st_size} bytes"
    if found != md5:
        raise FetchError(
            "wrong_sum", f"{target} is there and is not the published file ({found}, not {md5}); move it away"
        )


@contextlib.contextmanager
def _locked(part: Path, target: Path) -> Iterator[IO[bytes] | None]:
    """The partial file, open for reading and writing and locked; None if its owner has just finished the target."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        handle = open(part, "a+b")  # noqa: SIM115  (closed below; "a+b" makes it without emptying it)
        handle.close()
        handle = open(part, "r+b")  # noqa: SIM115
    except OSError as error:
        raise FetchError("unwritable", f"{part} cannot be written: {error.strerror or error}") from error
    with handle:
        try:
            import fcntl
        except ImportError:  # no such lock on this system: two fetches at once are the user's to avoid
            yield handle
            return
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise FetchError("busy", f"{target.name} is being fetched by another process") from None
        same = part.exists() and os.path.samestat(os.fstat(handle.fileno()), part.stat())
        if not same and not target.exists():
            raise FetchError("busy", f"{target.name} is being fetched by another process")
        try:
            yield handle if same else None
        finally:
            if same and os.fstat(handle.fileno()).st_size == 0:  # nothing in it to go on from
                part.unlink(missing_ok=True)


def _md5(file: IO[bytes], report: Progress) -> str:
    total, done = os.fstat(file.fileno()).st_size, 0
    digest = hashlib.md5(usedforsecurity=False)
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        done += len(chunk)
        report("check", done, total)
    return digest.hexdigest()


def _silent(doing: str, done: int, total: int) -> None:
    """Nobody watches."""
