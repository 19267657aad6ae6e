"""The streams service: the one place that calls it, tries again within bounds, and says what went wrong.

Needs boto3, an extra: imported only when a stream is followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from dynalayer.errors import ConfigurationError, SourceError
from dynalayer.eventlog.dynamodb.arguments import check_endpoint
from dynalayer.eventlog.dynamodb.connection import PATIENCE, backoff
from dynalayer.eventlog.dynamodb.failures import FailedCallError, reason_of, refused, unanswered
from dynalayer.streams.records import Stream
from dynalayer.urls import URL

__all__ = ["ExpiredIteratorError", "GoneError", "StreamsClient", "StreamsService", "TrimmedError", "made_client"]

_TRIES = 12  # with `backoff` about seven seconds, thirteen at most
_PAGE = 1000  # records, the most that there are


class StreamsClient(Protocol):
    """boto3's low-level client of `dynamodbstreams`, as far as it is called."""

    def list_streams(self, **arguments: Any) -> Mapping[str, Any]:
        """A table's streams."""

    def describe_stream(self, **arguments: Any) -> Mapping[str, Any]:
        """A stream and its shards."""

    def get_shard_iterator(self, **arguments: Any) -> Mapping[str, Any]:
        """Where reading a shard begins."""

    def get_records(self, **arguments: Any) -> Mapping[str, Any]:
        """A page of a shard."""


class ExpiredIteratorError(Exception):
    """An iterator was not used for a quarter of an hour."""


class TrimmedError(Exception):
    """What was asked for is older than what the stream keeps."""


class GoneError(Exception):
    """The stream, or the shard, is not there any more."""


_TOLD: Mapping[str, type[Exception]] = {
    "ExpiredIteratorException": ExpiredIteratorError,
    "TrimmedDataAccessException": TrimmedError,
    "ResourceNotFoundException": GoneError,
}


def made_client(region: str | None, endpoint_url: str | None) -> StreamsClient:
    """A client of the streams service; credentials come from boto3's own chain.

    Args:
        region: Left out, boto3's chain tells it.
        endpoint_url: For another service than AWS's own.

    Raises:
        ConfigurationError: None can be made.
    """
    if endpoint_url is not None:
        if not endpoint_url.startswith(("http://", "https://")):
            raise ConfigurationError("endpoint_url is a URL as http://127.0.0.1:8000 or https://host")
        URL.parse(endpoint_url, what="endpoint_url")  # refuses credentials
    try:
        client = boto3.session.Session(region_name=region).client(
            "dynamodbstreams",
            endpoint_url=endpoint_url,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 1},  # here they are counted
                max_pool_connections=32,
                connect_timeout=3,
                read_timeout=30,
            ),
        )
    except NoRegionError as error:
        raise ConfigurationError("the stream's region is not known; give it, or set AWS_REGION") from error
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"no client for the streams service can be made: {reason_of(error)}") from None
    check_endpoint(client.meta.endpoint_url)
    made: StreamsClient = client
    return made


class StreamsService:
    """Calls of the streams service. May be used by many threads.

    Args:
        client: The client.
        wait: Waits for so many seconds; less where the process is to end.
    """

    def __init__(self, client: StreamsClient, wait: Callable[[float], object]) -> None:
        self._client = client
        self._wait = wait

    def streams(self, table: str) -> list[Stream]:
        """A table's streams, the newest last."""
        found: list[Stream] = []
        begin: dict[str, Any] = {}
        while True:
            try:
                answer = self._call(table, "list_streams", TableName=table, **begin)
            except GoneError:
                return found
            found += (Stream.parse(each["StreamArn"], "StreamArn") for each in answer.get("Streams", ()))
            if "LastEvaluatedStreamArn" not in answer:
                return sorted(found, key=lambda each: each.label)
            begin = {"ExclusiveStartStreamArn": answer["LastEvaluatedStreamArn"]}

    def described(self, stream: Stream) -> Iterator[Mapping[str, Any]]:
        """A stream's description, page after page, each with more of its shards.

        Raises:
            GoneError: It is not there.
            SourceError: It cannot be described.
        """
        begin: dict[str, Any] = {}
        while True:
            page = self._call(stream.table, "describe_stream", StreamArn=stream.arn, **begin)["StreamDescription"]
            yield page
            if not page.get("LastEvaluatedShardId"):
                return
            begin = {"ExclusiveStartShardId": page["LastEvaluatedShardId"]}

    def iterator(self, stream: Stream, shard: str, *, after: str | None = None, latest: bool = False) -> str | None:
        """An iterator.

        Args:
            stream: The stream.
            shard: The shard's name.
            after: Behind this sequence number; None: at the shard's beginning.
            latest: At its end.

        Raises:
            TrimmedError: What comes after that number is not all there any more.
            GoneError: The shard is not there.
            SourceError: It failed.
        """
        where: dict[str, Any] = {"ShardIteratorType": "LATEST" if latest else "TRIM_HORIZON"}
        if after is not None:
            where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": after}
        answer = self._call(stream.table, "get_shard_iterator", StreamArn=stream.arn, ShardId=shard, **where)
        iterator: str | None = answer.get("ShardIterator")
        return iterator

    def page(self, stream: Stream, iterator: str) -> tuple[list[Any], str | None]:
        """Records, and the iterator of what comes after them; None where the shard has ended.

        Raises:
            ExpiredIteratorError: The iterator was not used for too long.
            TrimmedError: What it leads to is not all there any more.
            GoneError: The shard is not there.
            SourceError: It failed.
        """
        answer = self._call(stream.table, "get_records", ShardIterator=iterator, Limit=_PAGE)
        return list(answer.get("Records", ())), answer.get("NextShardIterator")

    def _call(self, table: str, action: str, **arguments: Any) -> Mapping[str, Any]:
        begun = time.monotonic()
        for tries in range(1, _TRIES + 1):
            try:
                return self._once(table, action, **arguments)
            except FailedCallError as error:
                if not error.retryable or tries == _TRIES or time.monotonic() - begun > PATIENCE:
                    raise SourceError(error.message, retryable=error.retryable) from error
                self._wait(backoff(tries))
        raise AssertionError("the last try returns or raises")

    def _once(self, table: str, action: str, **arguments: Any) -> Mapping[str, Any]:
        location = f"the stream of {table!r}"
        call: Callable[..., Mapping[str, Any]] = getattr(self._client, action)
        try:
            return call(**arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in _TOLD:
                raise _TOLD[code](reason_of(error)) from error
            failure = refused(location, action, error, url=f"dynamodb://{table}")
            if isinstance(failure, FailedCallError):
                raise failure from error
            raise SourceError(f"{location} refused {action}: {failure}") from error
        except BotoCoreError as error:
            raise unanswered(location, action, error) from error
