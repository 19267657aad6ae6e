"""Requests and answers as they go over the wire: DynamoDB's JSON 1.0 protocol."""

from __future__ import annotations

import http.client
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

__all__ = ["NAMESPACE", "TARGET", "Answer", "Item", "Request"]

Item = dict[str, Any]
"""An item or a key as DynamoDB's JSON has it: `{"pk": {"S": "eu"}}`."""

TARGET = "DynamoDB_20120810."
"""What stands before the operation's name in the header `X-Amz-Target`."""

NAMESPACE = "com.amazonaws.dynamodb.v20120810#"
"""What stands before an error's name."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came.

    Attributes:
        operation: Such as `PutItem`.
        headers: As they came.
        raw: The body as it came.
        body: The body decoded.
    """

    operation: str
    headers: tuple[tuple[str, str], ...]
    raw: bytes
    body: dict[str, Any]

    def header(self, name: str) -> str | None:
        """A header's value by its name in lower case; None where it is absent."""
        return next((value for key, value in self.headers if key.lower() == name), None)

    def tables(self) -> set[str]:
        """The tables that it names."""
        named = [self.body.get("TableName"), *(self.body.get("RequestItems") or ())]
        with suppress(AttributeError, TypeError):  # it is malformed: the endpoint says how
            for action in self.body.get("TransactItems") or ():
                named += (part.get("TableName") for part in action.values())
        return {name for name in named if isinstance(name, str)}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        status: HTTP's.
        body: As it goes out.
    """

    status: int
    body: bytes

    @classmethod
    def of(cls, content: Mapping[str, Any], status: int = 200) -> Answer:
        """An answer with this content."""
        return cls(status, orjson.dumps(content))

    @classmethod
    def error(cls, kind: str, message: str, status: int = 400, **more: object) -> Answer:
        """An error as the service sends it; a kind without a namespace is DynamoDB's own."""
        name = kind if "#" in kind else NAMESPACE + kind
        return cls.of({"__type": name, "message": message, **more}, status)

    @property
    def good(self) -> bool:
        """Whether the request was executed."""
        return self.status == http.client.OK

    def content(self) -> dict[str, Any]:
        """The body decoded."""
        content: dict[str, Any] = orjson.loads(self.body)
        return content

    def checksum(self) -> str:
        """What clients check the body against."""
        return str(zlib.crc32(self.body))
