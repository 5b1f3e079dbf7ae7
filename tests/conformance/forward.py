"""A server that hands each request to the real one; who stands between may change the request and look at the answer."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Headers of one connection alone.
HOP = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding"}
SECONDS = 60


@dataclass
class Request:
    """What a client asks: the path with its query, the headers by lower-case names and without those of the connection."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Exchange:
    """A request to the real server and its answer, whose body may be a stream without an end."""

    def __init__(self, address: str, request: Request) -> None:
        self._server = http.client.HTTPConnection(address.removeprefix("http://"), timeout=SECONDS)
        self._server.connect()
        self._socket: socket.socket = self._server.sock
        headers = request.headers | {"content-length": str(len(request.body))}
        self._server.request(request.method, request.path, request.body, headers)
        self._answer = self._server.getresponse()
        self.status = self._answer.status
        self.headers = {name.lower(): value for name, value in self._answer.getheaders() if name.lower() not in HOP}
        self.is_stream = self.headers.get("content-type", "").startswith("text/event-stream")

    def read(self) -> bytes:
        """The whole body."""
        try:
            return self._answer.read()
        finally:
            self._server.close()

    def lines(self) -> Iterator[bytes]:
        """The lines of a stream, until it or `end` ends it."""
        # What is cut off in the middle of a chunk is no error here.
        with contextlib.suppress(http.client.IncompleteRead, OSError):
            while line := self._answer.readline():
                yield line
        self._server.close()

    def end(self) -> None:
        """Ends a stream, also one that another thread is reading."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class Listener(http.server.ThreadingHTTPServer):
    """Says nothing of clients that went away."""

    def handle_error(self, request: object, client_address: object) -> None:
        """Only what is wrong here is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Forwarder:
    """Listens on a port of its own until it is closed; `answer` gets each request and gives what is told to the client."""

    def __init__(self, answer: Callable[[Request], tuple[Exchange, Iterator[bytes]]]) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A body goes out without waiting for the client to have its headers.
            disable_nagle_algorithm = True

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items() if name.lower() not in HOP}
                told, parts = answer(Request(self.command, self.path, headers, body))
                self.send_response(told.status)
                for name, value in told.headers.items():
                    self.send_header(name, value)
                if told.is_stream:
                    self.close_connection = True
                    self.send_header("connection", "close")
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        for part in parts:
                            self.wfile.write(part)
                else:
                    whole = b"".join(parts)
                    self.send_header("content-length", str(len(whole)))
                    self.end_headers()
                    self.wfile.write(whole)

            do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends it."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
