"""The connection: the one place that calls DynamoDB, counts what it costs, and says what went wrong.

The client's own retries are off. Requests that may safely run twice are tried again here, within bounds; those that
append or move a head are sent once a call, so that whoever calls knows what each try may have done.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError

from dynalayer.costs import Usage
from dynalayer.counting import UsageCounter
from dynalayer.errors import ClosedError, ConfigurationError, EventLogError
from dynalayer.eventlog.dynamodb.arguments import check_endpoint, check_place
from dynalayer.eventlog.dynamodb.failures import (
    FailedCallError,
    TakenError,
    code_of,
    is_dynamodbs,
    not_dynamodbs,
    reason_of,
    refused,
    unanswered,
)
from dynalayer.eventlog.dynamodb.sending import guard, sent_freely, sent_once
from dynalayer.forking import Lock
from dynalayer.units import item_size, write_units

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["PATIENCE", "Connection", "backoff"]

PATIENCE = 25.0
"""Seconds after which what failed is not tried again: with the longest wait for an answer about half a minute."""

_TRIES = 12  # with `backoff` about seven seconds, thirteen at most
_ACTIVE_SECONDS = 300
_CONNECTIONS = 32
_BATCH_KEYS = 100
_BATCH_WRITES = 25
_READS = frozenset({"get_item", "query", "scan", "batch_get_item"})
_ON_ROWS_OF_MANY = frozenset({"batch_get_item", "batch_write_item", "transact_write_items"})  # that name their table
_ON_ROWS = _READS | _ON_ROWS_OF_MANY | {"delete_item", "put_item", "update_item"}


def backoff(tries: int) -> float:
    """Seconds to wait after so many tries, from 1: doubled each time, jittered, at most two."""
    return random.uniform(0, min(2.0, 0.025 * 2.0**tries))  # noqa: S311 -- jitter, no secret


class Connection:
    """Calls on one table.

    Args:
        name: The table's name.
        client: The user's own low-level client; left out, one is made, and made anew in a forked process.
        region: For a client that is made; left out, boto3's own chain tells it.
        endpoint_url: Likewise.
    """

    def __init__(
        self,
        name: str,
        *,
        client: DynamoDBClient | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        check_place(name, client=client, region=region, endpoint_url=endpoint_url)
        self.name = name
        self.counter = UsageCounter()
        self._own = client is None
        self._region = region
        self._endpoint_url = endpoint_url
        self._lock = Lock()
        self._closed = False
        self._process = os.getpid()
        self._client = self._made() if client is None else client
        check_endpoint(self._client.meta.endpoint_url)
        guard(self._client)

    @property
    def location(self) -> str:
        """What people call the table."""
        return f"dynamodb://{self.name}"

    @property
    def url(self) -> str:
        """The table with the region and the endpoint that are asked."""
        meta = self._client.meta
        return f"{self.location}?region={meta.region_name}&endpoint_url={quote(meta.endpoint_url, safe=':/')}"

    def _made(self) -> DynamoDBClient:
        try:
            return boto3.session.Session(region_name=self._region).client(
                "dynamodb",
                endpoint_url=self._endpoint_url,
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": 1},
                    max_pool_connections=_CONNECTIONS,
                    connect_timeout=3,
                    read_timeout=10,  # the service answers in milliseconds
                ),
            )
        except NoRegionError as error:
            raise ConfigurationError(
                f"events: the region of {self.location} is not known; add ?region=… to the URL, or set AWS_REGION"
            ) from error
        except (BotoCoreError, ValueError) as error:
            told = reason_of(error)
            cause = error if told == str(error) else None  # nor may a secret stand in a traceback
            raise ConfigurationError(f"events: no client for {self.location} can be made: {told}") from cause

    def _usable(self) -> DynamoDBClient:
        self.check_open()
        if os.getpid() != self._process:
            with self._lock:
                if os.getpid() != self._process:
                    if not self._own:
                        raise EventLogError(
                            f"the client given for {self.location} was made in another process, whose connections this "
                            "one must not use; open a log with a client of its own after the fork"
                        )
                    # The parent's connections are left alone: what one process reads from them the other misses.
                    self._client = self._made()
                    guard(self._client)
                    self._process = os.getpid()
        return self._client

    def check_open(self) -> None:
        """Refuse a call on a closed log.

        Raises:
            ClosedError: It was closed.
        """
        if self._closed:
            raise ClosedError("the event log was closed")

    def close(self) -> None:
        """Refuse all further calls; connections are given back, but those of the user's own client."""
        if not self._closed:
            self._closed = True
            if self._own and os.getpid() == self._process:
                self._client.close()

    # Calls

    def call(self, action: str, *, failed_units: float = 1, **arguments: Any) -> dict[str, Any]:
        """Make a call that may safely run twice; throttling, conflicts and lost answers are tried again within bounds.

        Args:
            action: The client's method.
            failed_units: Write units that it costs when its condition does not hold, or when it is a transaction that
                is cancelled: the service does not tell.
            arguments: For the method; `TableName` may be left out.

        Raises:
            TakenError: Its condition did not hold.
            FailedCallError: It failed for good.
        """
        begun = time.monotonic()
        for tries in range(1, _TRIES + 1):
            try:
                return self._call(action, arguments, failed_units, sent_freely())
            except FailedCallError as error:
                if not error.retryable or tries == _TRIES or time.monotonic() - begun > PATIENCE:
                    raise
                time.sleep(backoff(tries))
        raise AssertionError("the last try returns or raises")

    def once(
        self, action: str, *, allowed: Callable[[], None] = lambda: None, failed_units: float = 1, **arguments: Any
    ) -> dict[str, Any]:
        """Make a call that is sent once.

        Args:
            action: The client's method.
            allowed: Called after it was signed, right before it is sent; what it raises is raised in place of that.
            failed_units: As for `call`.
            arguments: As for `call`.

        Raises:
            TakenError: Its condition did not hold.
            FailedCallError: It failed; says whether it may have been done.
        """
        return self._call(action, arguments, failed_units, sent_once(allowed))

    def _call(
        self, action: str, arguments: dict[str, Any], failed_units: float, sending: AbstractContextManager[None]
    ) -> dict[str, Any]:
        method = getattr(self._usable(), action)
        if action not in _ON_ROWS_OF_MANY:
            arguments = {"TableName": self.name, **arguments}
        if action in _ON_ROWS:
            arguments = {"ReturnConsumedCapacity": "TOTAL", **arguments}
        try:
            with sending:
                answer: dict[str, Any] = method(**arguments)
        except ClientError as error:
            failure = refused(self.location, action, error, url=self.url)
            self._count(action, {}, _units_of(action, error, failure, failed_units))
            raise failure from error
        except BotoCoreError as error:
            self._count(action, {}, 0)
            raise unanswered(self.location, action, error) from error
        self._count(action, answer, 0)
        if not is_dynamodbs(answer):
            raise not_dynamodbs(self.location, action, "its answer lacks what DynamoDB always tells")
        return answer

    def _count(self, action: str, answer: Mapping[str, Any], units: float) -> None:
        consumed = answer.get("ConsumedCapacity") or []
        units += sum(each["CapacityUnits"] for each in ([consumed] if isinstance(consumed, dict) else consumed))
        reads, writes = (units, 0.0) if action in _READS else (0.0, units)
        self.counter.add(Usage(requests=1, read_units=reads, write_units=writes))

    # The table itself

    def describe(self) -> dict[str, Any]:
        """What the service says of the table."""
        return dict(self.call("describe_table")["Table"])

    def described(self, table: str) -> dict[str, Any]:
        """What the service says of another table."""
        return dict(self.call("describe_table", TableName=table)["Table"])

    def ttl_attribute(self) -> str | None:
        """The attribute by which rows expire; None where TTL is off."""
        told = self.call("describe_time_to_live")["TimeToLiveDescription"]
        return told.get("AttributeName") if told.get("TimeToLiveStatus") in ("ENABLED", "ENABLING") else None

    def enable_ttl(self, attribute: str) -> None:
        """Let rows expire by an attribute."""
        specification = {"Enabled": True, "AttributeName": attribute}
        try:
            self.call("update_time_to_live", TimeToLiveSpecification=specification)
        except FailedCallError as error:
            # Refused also where an earlier try whose answer was lost, or another who makes the table, has done it.
            if error.code != "ValidationException" or self.ttl_attribute() != attribute:
                raise

    def make_table(self, **schema: Any) -> bool:
        """Make the table; False where there is one of that name, perhaps by an earlier try whose answer was lost."""
        try:
            self.call("create_table", **schema)
        except FailedCallError as error:
            if error.code == "ResourceInUseException":
                return False
            raise
        return True

    def wait_until_active(self) -> None:
        """Wait until a table just made can be used, up to five minutes."""
        deadline = time.monotonic() + _ACTIVE_SECONDS
        while not self._is_active():
            if time.monotonic() > deadline:
                raise FailedCallError(
                    f"{self.location} is not active after five minutes; run create-table again",
                    certainty="unknown",
                    retryable=True,
                )
            time.sleep(1)

    def _is_active(self) -> bool:
        try:
            return self.describe().get("TableStatus") in ("ACTIVE", "UPDATING")
        except FailedCallError as error:
            if error.code == "ResourceNotFoundException":  # just made, and not seen everywhere yet
                return False
            raise

    # Pages and batches

    def query(self, *, consistent: bool = True, limit: int | None = None, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The rows of a query, page after page.

        Args:
            consistent: Read strongly; an index cannot.
            limit: Rows to give at most.
            arguments: For the client's `query`.
        """
        if limit is not None:
            arguments["Limit"] = limit
        given = 0
        while True:
            answer = self.call("query", ConsistentRead=consistent, **arguments)
            for row in answer["Items"]:
                yield row
                given += 1
                if given == limit:
                    return
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def get(self, key: Mapping[str, Any], **arguments: Any) -> dict[str, Any] | None:
        """The row under a key, read strongly; None where there is none."""
        return self.call("get_item", Key=key, ConsistentRead=True, **arguments).get("Item")

    def batch_get(self, keys: Sequence[Mapping[str, Any]], **arguments: Any) -> Iterator[dict[str, Any]]:
        """The rows under keys, in no order, read strongly; what the service leaves unprocessed is asked for again.

        Raises:
            FailedCallError: A bounded number of times in a row it processed none of what was left.
        """
        for start in range(0, len(keys), _BATCH_KEYS):
            left, tries = keys[start : start + _BATCH_KEYS], 0
            while left:
                request = {"Keys": left, "ConsistentRead": True, **arguments}
                answer = self.call("batch_get_item", RequestItems={self.name: request})
                yield from answer.get("Responses", {}).get(self.name, ())
                sent, left = left, answer.get("UnprocessedKeys", {}).get(self.name, {}).get("Keys", ())
                tries = self._wait("batch_get_item", tries, len(sent), len(left))

    def batch_write(self, requests: Sequence[Mapping[str, Any]]) -> None:
        """Put and delete rows without conditions; what the service leaves unprocessed is sent again.

        Raises:
            FailedCallError: As `batch_get`.
        """
        for start in range(0, len(requests), _BATCH_WRITES):
            left, tries = requests[start : start + _BATCH_WRITES], 0
            while left:
                answer = self.call("batch_write_item", RequestItems={self.name: left})
                sent, left = left, answer.get("UnprocessedItems", {}).get(self.name, ())
                tries = self._wait("batch_write_item", tries, len(sent), len(left))

    def _wait(self, action: str, tries: int, sent: int, left: int) -> int:
        """Wait before what is left of a batch is sent again; tells how many tries in a row have got nothing done."""
        if left == 0:
            return 0
        tries = tries + 1 if left == sent else 0
        if tries == _TRIES:
            raise FailedCallError(
                f"{self.location} left all of {action} unprocessed {_TRIES} times in a row",
                certainty="unknown",
                retryable=True,
            )
        time.sleep(backoff(max(tries, 1)))
        return tries


def _units_of(action: str, error: ClientError, failure: TakenError | FailedCallError, expected: float) -> float:
    """Write units that a refusal costs, which the service does not tell: where it had begun, and met a condition."""
    if action == "transact_write_items":  # of which one row may be told, and all are paid for
        return expected if code_of(error) == "TransactionCanceledException" else 0
    if isinstance(failure, FailedCallError):
        return 0
    return expected if failure.row is None else write_units(0, before=item_size(failure.row))
