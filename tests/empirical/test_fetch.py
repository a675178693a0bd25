"""Fetching: whatever the server does, the target is the published file or is not there, and what came is kept."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from empirical.speech.fetch import FetchError, Patience, fetch, file_md5
from tests.helpers.file_server import Answer, Handler, Server, Site, fresh, good, running_site, status, upto

CONTENT = np.random.default_rng(6).integers(0, 256, size=400_000, dtype=np.uint8).tobytes()
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
HASTY = Patience(attempts=3, silence_s=0.3, slowest_bytes_s=1000.0, pause_s=0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_site() as running:
        yield running


@pytest.fixture
def site(server: Server, monkeypatch: pytest.MonkeyPatch) -> Site:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return fresh(server)


def ignoring_ranges(handler: Handler, first: int, content: bytes) -> None:
    handler.say(200, {"Content-Length": len(content)}, content)


def unmeasured(handler: Handler, first: int, content: bytes) -> None:
    """HTTP/1.0's way: no length, the end is where the connection closes."""
    handler.say(200, {}, content)


def chunked(handler: Handler, first: int, content: bytes) -> None:
    handler.say(200, {"Transfer-Encoding": "chunked"})
    for start in range(0, len(content), 50_000):
        piece = content[start : start + 50_000]
        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
    handler.wfile.write(b"0\r\n\r\n")


def other_bytes(handler: Handler, first: int, content: bytes) -> None:
    good(handler, first, bytes(reversed(content)))


def longer(handler: Handler, first: int, content: bytes) -> None:
    handler.say(200, {}, content + b"and more")


def announcing(length: int) -> Answer:
    def answer(handler: Handler, first: int, content: bytes) -> None:
        handler.say(200, {"Content-Length": length}, content[:length])

    return answer


def stalling(handler: Handler, first: int, content: bytes) -> None:
    upto(first + 100)(handler, first, content)
    handler.wfile.flush()
    time.sleep(0.5)


def dribbling(handler: Handler, first: int, content: bytes) -> None:
    upto(first)(handler, first, content)
    for byte in content[first : first + 30]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.05)


def other_range(handler: Handler, first: int, content: bytes) -> None:
    span = f"bytes 0-{len(content) - 1}/{len(content)}"
    handler.say(206, {"Content-Length": len(content), "Content-Range": span}, content)


def leading_to(address: str) -> Answer:
    def answer(handler: Handler, first: int, content: bytes) -> None:
        handler.say(302, {"Location": address, "Content-Length": 0})

    return answer


def have(urls: list[str], target: Path, **changes: object) -> int:
    received = fetch(urls, target, **({"size": len(CONTENT), "md5": MD5, "patience": HASTY} | changes))  # type: ignore
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return received


def refused(urls: list[str], target: Path, code: str, said: str, **changes: object) -> FetchError:
    with pytest.raises(FetchError, match=said) as caught:
        fetch(urls, target, **({"size": len(CONTENT), "md5": MD5, "patience": HASTY} | changes))  # type: ignore
    assert caught.value.code == code and not target.exists()
    return caught.value


@pytest.mark.parametrize("answer", [good, unmeasured, chunked])
def test_an_honest_server(site: Site, tmp_path: Path, answer: Answer) -> None:
    seen: list[tuple[str, int, int]] = []
    target = tmp_path / "new" / "a.tar.gz"
    assert have([site.serving(CONTENT, answer)], target, progress=lambda *what: seen.append(what)) == len(CONTENT)
    assert {("download", len(CONTENT), len(CONTENT)), ("check", len(CONTENT), len(CONTENT))} <= set(seen)
    assert file_md5(target) == MD5
    assert have([site.serving(CONTENT, status(500))], target) == 0  # it is there: nobody is asked
    assert len(site.asked) == 1


def test_every_drop_is_gone_on_from(site: Site, tmp_path: Path) -> None:
    url = site.serving(CONTENT, upto(100_000), upto(100_000), upto(250_000), good)
    assert have([url], tmp_path / "a") == len(CONTENT)  # not one byte twice
    assert [asked for _, asked in site.asked] == [None, "bytes=100000-", "bytes=100000-", "bytes=250000-"]


def test_a_later_call_goes_on_from_what_an_earlier_one_kept(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "a"
    error = refused(
        [site.serving(CONTENT, upto(123_456))], target, "no_server", "123456 of 400000 bytes came and are kept"
    )
    assert "broke off at 123456" in str(error)
    assert (tmp_path / "a.part").read_bytes() == CONTENT[:123_456]
    assert have([site.serving(CONTENT, good)], target) == len(CONTENT) - 123_456


def test_what_is_left_of_another_file_costs_one_more_round(site: Site, tmp_path: Path) -> None:
    (tmp_path / "a.part").write_bytes(b"x" * 1000)
    assert have([site.serving(CONTENT, good)], tmp_path / "a") == 2 * len(CONTENT) - 1000
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "a.part").write_bytes(b"x" * (len(CONTENT) + 1))
    assert have([site.serving(CONTENT, good)], tmp_path / "b" / "a") == len(CONTENT)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "a.part").write_bytes(CONTENT)  # stopped before its name was given
    assert have([site.serving(CONTENT, status(500))], tmp_path / "c" / "a") == 0


@pytest.mark.parametrize("answer", [ignoring_ranges, unmeasured])
def test_a_server_that_ignores_the_range_sends_all_again(site: Site, tmp_path: Path, answer: Answer) -> None:
    assert have([site.serving(CONTENT, upto(100_000), answer)], tmp_path / "a") == 100_000 + len(CONTENT)


@pytest.mark.parametrize("answer", [other_range, status(416)])
def test_one_that_answers_ranges_wrongly_is_asked_without(site: Site, tmp_path: Path, answer: Answer) -> None:
    have([site.serving(CONTENT, upto(100_000), answer, good)], tmp_path / "a")
    assert [asked for _, asked in site.asked] == [None, "bytes=100000-", None]


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        (stalling, "no_server", "silent for 0.3 s"),
        (dribbling, "no_server", "less than 1000 bytes a second"),
        (status(503), "no_server", "status 503"),
        (status(404), "no_server", "status 404"),
        (announcing(1000), "no_server", "its file has 1000 bytes, the published one 400000"),
        (longer, "no_server", "sends more than the published 400000 bytes"),
        (other_bytes, "wrong_sum", MD5),
        (leading_to("file:///etc/hostname"), "no_server", "not allowed|unknown url"),
        (leading_to("/file"), "no_server", "redirect"),
    ],
)
def test_a_server_that_will_not_do_is_named_with_what_it_did(
    site: Site, tmp_path: Path, answer: Answer, code: str, said: str
) -> None:
    url = site.serving(CONTENT, answer)
    error = refused([url], tmp_path / "a", code, said)
    assert code == "wrong_sum" or url in str(error)
    # Another server has the file, and the bad one, asked first, does not spoil it.
    have([url, site.serving(CONTENT, good, at="mirror")], tmp_path / "a")


def test_what_is_gone_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    refused([site.serving(CONTENT, status(404))], tmp_path / "a", "no_server", "404")
    assert len(site.asked) == 1 and list(tmp_path.iterdir()) == []


def test_two_servers_one_of_which_lies_about_the_bytes(site: Site, tmp_path: Path) -> None:
    lying = site.serving(CONTENT, other_bytes, at="lying")
    have([site.serving(CONTENT, upto(50_000), good), lying], tmp_path / "a")


def test_drops_that_bring_something_never_end_it(site: Site, tmp_path: Path) -> None:
    drops = [upto(stop) for stop in range(50_000, len(CONTENT), 50_000)]
    have([site.serving(CONTENT, *drops, good)], tmp_path / "a", patience=Patience(attempts=1, pause_s=0.0))
    for wrong in ({"attempts": 0}, {"silence_s": 0.0}, {"pause_s": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))}.* must"):
            Patience(**wrong)  # type: ignore[arg-type]


def test_nobody_there(tmp_path: Path, site: Site) -> None:
    refused(["http://127.0.0.1:9/a"], tmp_path / "a", "no_server", "refused")


def test_what_is_refused_before_a_server_is_asked(site: Site, tmp_path: Path) -> None:
    for url in ("ftp://x/a", "file:///etc/hostname", "x"):
        refused([url], tmp_path / "a", "bad_address", "must begin with http:// or https://")
    refused([site.serving(CONTENT, good)], tmp_path / "a", "no_space", "bytes free", size=2**62)
    wrong = tmp_path / "b"
    wrong.write_bytes(b"mine")
    with pytest.raises(FetchError, match=r"move it away \[wrong_sum\]"):
        fetch([site.serving(CONTENT, good)], wrong, size=len(CONTENT), md5=MD5)
    assert wrong.read_bytes() == b"mine" and site.asked == []
    (tmp_path / "file").write_text("")
    with pytest.raises(FetchError, match="cannot be written") as caught:
        fetch([site.serving(CONTENT, good)], tmp_path / "file" / "a", size=len(CONTENT), md5=MD5)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_two_fetches_of_one_file_do_not_write_into_each_other(site: Site, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    with open(tmp_path / "a.part", "wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        refused([site.serving(CONTENT, good)], tmp_path / "a", "busy", "by another process")
    have([site.serving(CONTENT, good)], tmp_path / "a")
