"""The HTTP server of the proxy: a thread a connection, connections that are closed in place of an answer."""

from __future__ import annotations

import secrets
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

from dynalayer.testing.dynamodb.messages import Answer

__all__ = ["MAX_BODY", "Headers", "Server"]

MAX_BODY = 17 * 1024 * 1024
"""Bytes that a request may have: the service takes 16 MB, and our own text of a limit is better than none."""

_MAX_CONNECTIONS = 256
_DRAIN = 64 * 1024 * 1024  # bytes of too large a request that are read, so that the refusal is heard
_IDLE_SECONDS = 120.0

Headers = tuple[tuple[str, str], ...]
"""Headers as they came."""


class Server:
    """Serves on 127.0.0.1 until it is closed.

    Args:
        port: 0 for any that is free.
        answer: Answers a request by its headers and its body; None closes the connection.
        refused: Told of each connection that is one too many.

    Raises:
        OSError: The port is taken.

    Attributes:
        url: Where.
    """

    def __init__(
        self, port: int, answer: Callable[[Headers, bytes], Answer | None], refused: Callable[[], object]
    ) -> None:
        self._server = _Server(port, answer, refused)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, name=f"proxy {self.url}", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Take no more connections, and close those that there are."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._server.close_connections()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, port: int, answer: Callable[[Headers, bytes], Answer | None], refused: Callable[[], object]
    ) -> None:
        self.answer = answer
        self._refused = refused
        self._lock = threading.Lock()
        self._threads_of: dict[socket.socket, threading.Thread] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            full = len(self._threads_of) >= _MAX_CONNECTIONS
            if not full:
                thread = threading.Thread(
                    target=self.process_request_thread, args=(request, client_address), name="proxied", daemon=True
                )
                self._threads_of[request] = thread
                thread.start()
        if full:
            self._refused()
            self.shutdown_request(request)

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        with self._lock:
            self._threads_of.pop(request, None)

    def close_connections(self) -> None:
        with self._lock:
            threads = list(self._threads_of.values())
            for connection in self._threads_of:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue  # it is closed already
        for thread in threads:
            thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that is gone is no error here.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = _IDLE_SECONDS
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit():
            self._send(Answer.error("com.amazon.coral.service#SerializationException", "Content-Length is needed"))
            self.close_connection = True
            return
        if int(length) > MAX_BODY:
            self._refuse(int(length))
            return
        raw = self.rfile.read(int(length))
        if len(raw) < int(length):
            self.close_connection = True
            return
        answer = self.server.answer(tuple(self.headers.items()), raw)
        if answer is None:
            self.close_connection = True
        else:
            self._send(answer)

    def _refuse(self, length: int) -> None:
        left = min(length, _DRAIN)
        while left > 0 and (read := self.rfile.read(min(left, 1 << 16))):
            left -= len(read)
        kind = "com.amazon.coral.service#RequestEntityTooLargeException"
        self._send(Answer.error(kind, f"Request of {length} bytes is too large; at most {MAX_BODY}", status=413))
        self.close_connection = True

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("x-amzn-RequestId", secrets.token_hex(26).upper())
        self.send_header("x-amz-crc32", answer.checksum())
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)
        self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- http.server's name
        pass
