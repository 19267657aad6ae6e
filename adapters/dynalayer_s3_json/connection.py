"""The connection: whose client asks, in which process, and what it is called when that fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from dynalayer import ConfigurationError, StorageError, s3_refusal
from dynalayer_s3_json.failures import UNREADABLE, unanswered

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Connection"]

_TRIES = 4
_CONNECTIONS = 32
_REFUSED = frozenset({400, 401, 403})  # what wrong and worn-out credentials are answered with, among other things


class Connection:
    """Requests to one bucket.

    Args:
        bucket: The bucket's name.
        client: The user's own low-level client; left out, one is made when it is first needed, not before: looking for
            credentials may ask the network. It is made anew in a forked process, and after a failure, since
            credentials may have been found or renewed meanwhile.
        region: For a client that is made; left out, boto3's own chain tells it.
        endpoint_url: Likewise.
    """

    def __init__(
        self,
        bucket: str,
        *,
        client: S3Client | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self.bucket = bucket
        self._region = region
        self._endpoint_url = endpoint_url
        self._own = client is None
        # By process. What a fork brought along is left alone: what one process reads from a connection the other
        # misses. And no lock, which a fork could leave held: of two clients made at once one is never used.
        self._clients: dict[int, S3Client] = {} if client is None else {os.getpid(): client}

    def location(self, key: str = "") -> str:
        """What people call an object, or the bucket."""
        return f"s3://{self.bucket}/{key}" if key else f"s3://{self.bucket}"

    @contextmanager
    def asking(self, action: str, key: str = "") -> Iterator[S3Client]:
        """Give the client for one request, reading its answer included; what fails comes out as an error of ours.

        Args:
            action: The operation's name: `GetObject`.
            key: The object, or the beginning of those listed.

        Raises:
            SegmentMissingError: The object is not there.
            SegmentCorruptError: What came does not match its checksum.
            StorageError: It was refused, or not answered, or could not be asked.
        """
        try:
            yield self._client()
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") in _REFUSED:
                self.close()
            raise s3_refusal(error.response, action=action, bucket=self.bucket, key=key) from error
        except UNREADABLE as error:
            self.close()
            raise unanswered(self.location(key), action, error) from error

    def close(self) -> None:
        """Give connections back, but those of the user's own client. The next request makes a client anew."""
        if self._own:
            client = self._clients.pop(os.getpid(), None)
            if client is not None:
                client.close()

    def _client(self) -> S3Client:
        client = self._clients.get(os.getpid())
        if client is not None:
            return client
        if not self._own:
            raise StorageError(
                f"the client given for {self.location()} was made in another process, whose connections this one must "
                "not use; open a layer with a client of its own after the fork"
            )
        return self._clients.setdefault(os.getpid(), self._made())

    def _made(self) -> S3Client:
        try:
            return boto3.session.Session(region_name=self._region).client(
                "s3",
                endpoint_url=self._endpoint_url,
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": _TRIES},
                    max_pool_connections=_CONNECTIONS,
                    connect_timeout=5,
                    read_timeout=60,
                ),
            )
        except ValueError as error:
            raise ConfigurationError(f"storage: no client for {self.location()} can be made: {error}") from error
