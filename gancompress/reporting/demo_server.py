"""A local web server for a demo page: three addresses, nothing kept, nothing from elsewhere."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from gancompress.errors import ConfigError, DataError
from gancompress.reporting.demo_page import PAGE, POLICY
from gancompress.reporting.demo_pair import SideBySide

LIMIT = 16 * 2**20
"""Bytes of an uploaded picture."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make_server(pair: SideBySide, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of ``pair``, bound but not running; port 0 takes a free one.

    Raises:
        ConfigError: the address is taken, or none of this machine's.
    """

    class Handler(_Handler):
        demo = pair
        only_local = host in LOOPBACK

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error}). Choose another --port, or --host"
        ) from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    demo: SideBySide
    only_local = True
    timeout = 30  # seconds that a reader may stay silent

    def do_GET(self) -> None:
        """Answer the page, what it is about, or a pair of outputs."""
        parts = urlsplit(self.path)
        if not self._is_meant():
            return
        if parts.path == "/":
            self._send(200, PAGE.encode(), "text/html; charset=utf-8")
        elif parts.path == "/about":
            self._answer(self.demo.about)
        elif parts.path == "/generate":
            words = parse_qs(parts.query)
            self._answer(lambda: self.demo.run(self._asked(words)))
        else:
            self._json(404, {"error": f"nothing is at {parts.path[:80]}"})

    def do_POST(self) -> None:
        """Answer with the outputs for an uploaded picture."""
        if not self._is_meant():
            return
        if urlsplit(self.path).path != "/picture":
            self._json(404, {"error": "pictures go to /picture"})
            return
        text = self.headers.get("Content-Length", "")
        if not text.isdecimal() or int(text) > LIMIT:
            self.close_connection = True
            self._json(413, {"error": f"a picture may have {LIMIT // 2**20} MB"})
            return
        data = self.rfile.read(int(text))
        self._answer(lambda: self.demo.run(self.demo.with_picture(data)))

    def _asked(self, words: dict[str, list[str]]) -> Any:
        def number(name: str, usual: int | None) -> int | None:
            if name not in words:
                return usual
            if not words[name][0].isdecimal() or len(words[name][0]) > 10:
                raise DataError(f"{name}={words[name][0][:40]!r} is no whole number")
            return int(words[name][0])

        return self.demo.batch(number("seed", 0) or 0, number("class", None), number("n", 8) or 0)

    def _is_meant(self) -> bool:
        """Refuse requests that a page of another site makes through a name of its own."""
        name = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        origin = self.headers.get("Origin")
        foreign = origin is not None and urlsplit(origin).netloc != self.headers.get("Host")
        if (self.only_local and name not in LOOPBACK) or foreign:
            self._json(403, {"error": "this demo answers on this machine alone"})
            return False
        return True

    def _answer(self, make: Any) -> None:
        try:
            found = make()
        except DataError as error:
            self._json(400, {"error": str(error)})
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            self._json(500, {"error": f"{type(error).__name__}: {text}"})
        else:
            self._json(200, found)

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: stderr is for notes."""
