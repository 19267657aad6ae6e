"""Objects of a bucket: read whole in one request, put and replaced, listed, deleted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from dynalayer import SegmentMissingError, StorageError
from dynalayer_s3_json.connection import Connection
from dynalayer_s3_json.failures import code_of, not_s3
from dynalayer_s3_json.putting import put

__all__ = ["Found", "Objects"]

_CHANGED = frozenset({"ConditionalRequestConflict", "NoSuchKey", "PreconditionFailed"})
_NO_CONDITIONS = "NotImplemented"


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is there.

    Attributes:
        etag: Changes when it is replaced by another content.
        metadata: What was said of it; keys in lower case, whatever the server makes of them.
    """

    etag: str
    metadata: Mapping[str, str]


class Objects:
    """The objects of one bucket.

    Args:
        connection: Asks for them.
        written: What is said of every object that is put: storage class, encryption.
    """

    def __init__(self, connection: Connection, written: Mapping[str, str]) -> None:
        self._connection = connection
        self._bucket = connection.bucket
        self._written = written

    def location(self, key: str) -> str:
        """What people call an object."""
        return self._connection.location(key)

    def put(self, key: str, body: bytes) -> None:
        """Put an object; it is durable, whole, when this returns."""
        put(self._connection, key, body, self._written, {})

    def replace(self, key: str, body: bytes, found: Found | None, about: Mapping[str, Any]) -> bool:
        """Put an object in place of the one that was found there, or of none; False if that has changed meanwhile.

        A server that does not know such conditions replaces whatever is there.
        """
        arguments = {**self._written, **about}
        condition = {"IfMatch": found.etag} if found else {"IfNoneMatch": "*"}
        try:
            put(self._connection, key, body, arguments, condition)
        except StorageError as error:
            code = code_of(error)
            if code in _CHANGED:
                return False
            if code != _NO_CONDITIONS:
                raise
            put(self._connection, key, body, arguments, {})
        return True

    def get(self, key: str) -> bytes:
        """All of an object, by one request; a checksum that is kept with it is compared."""
        with self._connection.asking("GetObject", key) as client:
            answer = client.get_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            with closing(answer["Body"]) as body:
                return body.read()

    def find(self, key: str) -> Found | None:
        """What is known of an object; None where there is none."""
        try:
            with self._connection.asking("HeadObject", key) as client:
                answer = client.head_object(Bucket=self._bucket, Key=key)
        except StorageError as error:
            if isinstance(error, SegmentMissingError) or code_of(error) == "404":  # heads have no names
                return None
            raise
        return Found(answer["ETag"], {name.lower(): value for name, value in answer["Metadata"].items()})

    def names(self, folder: str) -> Iterator[str]:
        """The keys that begin with a folder, without it; S3 lists what is there at that moment."""
        with self._connection.asking("ListObjectsV2", folder) as client:
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=folder):
                if "IsTruncated" not in page:
                    raise not_s3(self.location(folder), "ListObjectsV2")
                for found in page.get("Contents", ()):
                    yield found["Key"].removeprefix(folder)

    def delete(self, key: str) -> None:
        """Delete an object, whether it is there or not."""
        with self._connection.asking("DeleteObject", key) as client:
            client.delete_object(Bucket=self._bucket, Key=key)
