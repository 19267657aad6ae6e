"""The endpoint behind the proxy: connections to it, requests of our own, and what its tables' keys are."""

from __future__ import annotations

import http.client
import select
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from dynalayer.errors import ConfigurationError
from dynalayer.testing.dynamodb.keys import TableKeys
from dynalayer.testing.dynamodb.messages import TARGET, Answer, Item, Request

__all__ = ["Service", "UnreachableError"]

_MAX_ANSWER = 64 * 1024 * 1024  # bytes: 16 MB of items, with what base64 and JSON add, many times over
_MAX_IDLE = 32  # connections kept for the next request
_IDLE_SECONDS = 5.0  # servers close idle connections: ours are given up long before
_TIMEOUT = 60.0
# Headers that belong to one connection, and those that are set anew.
_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"),
        *("content-length", "accept-encoding"),
    )
)
_IDENTITY = frozenset(("host", "authorization", "x-amz-date", "x-amz-security-token"))
_NOBODY = (
    ("Host", "localhost"),
    (
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=testing/20200101/us-east-1/dynamodb/aws4_request, SignedHeaders=host, Signature=0",
    ),
)


class UnreachableError(OSError):
    """The endpoint gave no answer: whether it did anything is open."""


class Service:
    """A DynamoDB endpoint that does not check signatures, such as an emulator's.

    Args:
        endpoint_url: Its URL.

    Raises:
        ConfigurationError: It is no URL of a host.
    """

    def __init__(self, endpoint_url: str) -> None:
        parts = urlsplit(endpoint_url)
        if parts.scheme not in ("http", "https") or parts.hostname is None:
            raise ConfigurationError(f"{endpoint_url!r} is no URL of a DynamoDB endpoint, as in http://localhost:8000")
        self.endpoint_url = endpoint_url
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._lock = threading.Lock()
        self._idle: deque[tuple[http.client.HTTPConnection, float]] = deque()
        self._closed = False
        self._keys: dict[str, TableKeys] = {}
        self._callers: dict[str, tuple[tuple[str, str], ...]] = {}

    def forward(self, request: Request, body: Mapping[str, Any] | None = None) -> Answer:
        """Have a request executed, with another body if one is given.

        Raises:
            UnreachableError: There was no answer.
        """
        raw = request.raw if body is None else orjson.dumps(body)
        return self._exchange([header for header in request.headers if header[0].lower() not in _HOP], raw)

    def call(self, operation: str, table: str, **body: object) -> Answer:
        """Execute a request of one's own on a table, in the name of who last asked for that table.

        Raises:
            UnreachableError: There was no answer.
        """
        with self._lock:
            caller = self._callers.get(table, _NOBODY)
        headers = [*caller, ("X-Amz-Target", TARGET + operation), ("Content-Type", "application/x-amz-json-1.0")]
        return self._exchange(headers, orjson.dumps({"TableName": table} | body))

    def batch_get(self, table: str, keys: list[Item], **how: object) -> list[Item]:
        """Strong reads of some items, at most 100; those that are not there are left out.

        Raises:
            UnreachableError: There was no answer, or an error.
        """
        found: list[Item] = []
        with self._lock:
            caller = self._callers.get(table, _NOBODY)
        headers = [*caller, ("X-Amz-Target", TARGET + "BatchGetItem"), ("Content-Type", "application/x-amz-json-1.0")]
        while keys:
            wanted = {"Keys": keys, "ConsistentRead": True} | how
            answer = self._exchange(headers, orjson.dumps({"RequestItems": {table: wanted}}))
            if not answer.good:
                raise UnreachableError(f"{self.endpoint_url} answered {answer.status}: {answer.body[:200]!r}")
            content = answer.content()
            found += content["Responses"].get(table) or ()
            keys = ((content.get("UnprocessedKeys") or {}).get(table) or {}).get("Keys") or []
        return found

    def remember_caller(self, request: Request) -> None:
        """Remember in whose name its tables were asked for: an emulator may keep tables apart by that."""
        caller = tuple(header for header in request.headers if header[0].lower() in _IDENTITY)
        with self._lock:
            for table in request.tables():
                self._callers[table] = caller

    def tables(self) -> list[str]:
        """The tables that were asked for."""
        with self._lock:
            return list(self._callers)

    def keys(self, table: object) -> TableKeys | None:
        """A table's keys, asked for once; None where there is no such table.

        Raises:
            UnreachableError: There was no answer.
        """
        if not isinstance(table, str):
            return None
        with self._lock:
            known = self._keys.get(table)
        if known is not None:
            return known
        answer = self.call("DescribeTable", table)
        if not answer.good:
            return None
        keys = TableKeys.of(answer.content()["Table"])
        with self._lock:
            self._keys[table] = keys
        return keys

    def forget(self, tables: Iterable[str]) -> None:
        """Forget tables that are made, changed or deleted, until they are asked for again."""
        with self._lock:
            for table in tables:
                self._keys.pop(table, None)
                self._callers.pop(table, None)

    def close(self) -> None:
        """Close all connections that are not in use, and the others when they are given back."""
        with self._lock:
            self._closed = True
            idle = [connection for connection, _ in self._idle]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _exchange(self, headers: Iterable[tuple[str, str]], raw: bytes) -> Answer:
        connection = self._take()
        try:
            connection.putrequest("POST", "/", skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                connection.putheader(name, value)
            connection.putheader("Accept-Encoding", "identity")
            connection.putheader("Content-Length", str(len(raw)))
            connection.endheaders(raw)
            with connection.getresponse() as response:
                body = response.read(_MAX_ANSWER + 1)
                if len(body) > _MAX_ANSWER or response.length:
                    raise UnreachableError(f"{self.endpoint_url} answered too much, or broke off")
        except (OSError, http.client.HTTPException) as error:
            # Never sent again: it may have been executed.
            connection.close()
            if isinstance(error, UnreachableError):
                raise
            raise UnreachableError(f"{self.endpoint_url} does not answer: {type(error).__name__}: {error}") from error
        self._give_back(connection)
        return Answer(response.status, body)

    def _take(self) -> http.client.HTTPConnection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection, since = self._idle.pop()
            if time.monotonic() - since < _IDLE_SECONDS and not _closed_by_peer(connection):
                return connection
            connection.close()
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=_TIMEOUT)

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if connection.sock is not None and not self._closed and len(self._idle) < _MAX_IDLE:
                self._idle.append((connection, time.monotonic()))
                return
        connection.close()


def _closed_by_peer(connection: http.client.HTTPConnection) -> bool:
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
