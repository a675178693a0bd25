"""A file server on the loopback that does as a test's script says: drops, stalls, lies."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Answer = Callable[["Handler", int, bytes], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the site's script says; each answer is told from which byte it was asked, and the true content."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        asked, site, name = self.headers.get("Range"), self.server.site, self.path.lstrip("/")
        site.asked.append((self.path, asked))
        match = re.fullmatch(r"bytes=(\d+)-", asked or "")
        self.close_connection = True
        script = site.scripts[name]
        answer = script.pop(0) if len(script) > 1 else script[0]
        answer(self, int(match.group(1)) if match else 0, site.contents[name])

    def say(self, status: int, headers: dict[str, object], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """A test says enough."""


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    site: Site

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the test."""


@dataclass
class Site:
    """What is served: for each path its content, and the answers to its requests in turn, the last one for ever."""

    address: str
    scripts: dict[str, list[Answer]] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def serving(self, content: bytes, *answers: Answer, at: str = "file") -> str:
        """Address of a file from now on."""
        self.scripts[at], self.contents[at] = list(answers), content
        return f"{self.address}/{at}"


@contextlib.contextmanager
def running_site() -> Iterator[Server]:
    """A server; give it a `Site` of its own for each test by `fresh`."""
    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def fresh(server: Server) -> Site:
    """An empty site on a running server."""
    server.site = Site(f"http://127.0.0.1:{server.server_address[1]}")
    return server.site


def good(handler: Handler, first: int, content: bytes) -> None:
    """Everything from the byte that was asked for."""
    if not first:
        handler.say(200, {"Content-Length": len(content)}, content)
        return
    span = f"bytes {first}-{len(content) - 1}/{len(content)}"
    handler.say(206, {"Content-Length": len(content) - first, "Content-Range": span}, content[first:])


def upto(stop: int) -> Answer:
    """Promises everything, hangs up at byte `stop`."""

    def answer(handler: Handler, first: int, content: bytes) -> None:
        headers: dict[str, object] = {"Content-Length": len(content) - first}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        handler.say(206 if first else 200, headers, content[first : max(stop, first)])

    return answer


def status(code: int) -> Answer:
    """An error page."""

    def answer(handler: Handler, first: int, content: bytes) -> None:
        handler.say(code, {"Content-Length": 5}, b"sorry")

    return answer
