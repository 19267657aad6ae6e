"""A table for one test, and the wire to it: what a client sends is counted, and breaks where the test says so."""

from __future__ import annotations

import http.client
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

import servers
from dynalayer import DynamoDBEventLog, Layer
from dynalayer.clock import to_iso
from dynalayer.eventlog.base import Draft, EventLog, Head, HeadMove, OldSegment, RecordKind, SegmentRef
from dynalayer.eventlog.dynamodb import rows
from dynalayer_local import LocalAdapter

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Row = dict[str, Any]

Fate = Callable[[AWSPreparedRequest], AWSResponse | None]
"""What becomes of one request: an answer, an exception in place of one, or None: it is sent as usual."""

TRIES = 12  # of a request that the service puts off or does not answer


# Fates


def passes(request: AWSPreparedRequest) -> None:
    """It is sent as usual."""


def lost_request(request: AWSPreparedRequest) -> None:
    """The service never hears of it, and the client cannot know."""
    raise ConnectionClosedError(endpoint_url=request.url)


def lost_answer(request: AWSPreparedRequest) -> None:
    """The service does it, and its answer never comes."""
    forward(request)
    raise ReadTimeoutError(endpoint_url=request.url)


def unreachable(request: AWSPreparedRequest) -> None:
    """There is no connection: it was certainly not done."""
    raise EndpointConnectionError(endpoint_url=request.url)


def answers(content: dict[str, Any], status: int = 200) -> Fate:
    """The service answers this, and does nothing."""

    def fate(request: AWSPreparedRequest) -> AWSResponse:
        return response(request, status, orjson.dumps(content), {"x-amzn-RequestId": "0"})

    return fate


def refuses(kind: str, message: str = "refused by the test", status: int = 400, **more: Any) -> Fate:
    """The service refuses it."""
    return answers({"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", "message": message, **more}, status)


def page(status: int, *, done: bool = False) -> Fate:
    """Something between answers with a page of its own, whether the service has done it or never heard of it."""

    def both(request: AWSPreparedRequest) -> AWSResponse:
        if done:
            forward(request)
        return response(request, status, b"<html>Please sign in</html>")

    return both


def cancels(*codes: str) -> Fate:
    """The service cancels a transaction, for a reason by action."""
    reasons = [{"Code": code} for code in codes]
    return refuses("TransactionCanceledException", f"Transaction cancelled [{codes}]", CancellationReasons=reasons)


def after(do: Callable[[], object], fate: Fate = passes) -> Fate:
    """Something else happens right before it meets its fate, as if elsewhere."""

    def both(request: AWSPreparedRequest) -> AWSResponse | None:
        elsewhere(do)
        return fate(request)

    return both


def elsewhere(do: Callable[[], object]) -> None:
    """Do something as another process would: as no part of the call that is being made."""
    Context().run(do)


class Held:
    """A fate: no answer comes, and the request arrives when the test says so."""

    def __init__(self) -> None:
        self._request: AWSPreparedRequest | None = None

    def __call__(self, request: AWSPreparedRequest) -> None:
        self._request = request
        raise ReadTimeoutError(endpoint_url=request.url)

    def arrive(self) -> int:
        """Let it arrive; the status that nobody is told."""
        assert self._request is not None, "it was never sent"
        return forward(self._request).status_code


def forward(request: AWSPreparedRequest) -> AWSResponse:
    """Have a request executed that a client has signed."""
    parts = urlsplit(request.url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)) as connection:
        connection.request("POST", "/", body_of(request), dict(request.headers))
        answer = connection.getresponse()
        told = {name: value for name, value in answer.getheaders() if name.lower() == "x-amzn-requestid"}
        return response(request, answer.status, answer.read(), told)


def body_of(request: AWSPreparedRequest) -> bytes:
    assert isinstance(request.body, bytes)
    return request.body


class _Raw:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self) -> Iterator[bytes]:
        yield self._body


def response(
    request: AWSPreparedRequest, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> AWSResponse:
    return AWSResponse(request.url, status, HTTPHeaders.from_dict(headers or {}), _Raw(body))


# The wire


@dataclass(frozen=True)
class Sent:
    """One request that was really sent.

    Attributes:
        operation: Such as `PutItem`.
        body: Its body.
    """

    operation: str
    body: dict[str, Any]


@dataclass
class Wire:
    """What one client sends, in order, and what becomes of it.

    Attributes:
        sent: What was sent.
        calls: How often the client was called, by operation: with retries of its own it sends more than once a call.
    """

    sent: list[Sent] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._plans: dict[str, list[tuple[bytes, list[Fate]]]] = defaultdict(list)

    def plan(self, operation: str, *fates: Fate, about: str = "") -> None:
        """What becomes of the next requests of an operation, those that hold a text; afterwards all goes well."""
        with self._lock:
            self._plans[operation].append((about.encode(), list(fates)))

    def operations(self) -> list[str]:
        """The operations sent since the last time, in order."""
        with self._lock:
            told = [each.operation for each in self.sent]
            self.sent.clear()
        return told

    def attach(self, client: DynamoDBClient) -> None:
        """Look at what a client sends, after the log itself has."""
        client.meta.events.register("before-call.dynamodb", self._called)
        send: Any = self._send  # the stubs do not know that it may answer
        client.meta.events.register("before-send.dynamodb", send)

    def _called(self, model: Any, **_: Any) -> None:
        with self._lock:
            self.calls[model.name] += 1

    def _send(self, request: AWSPreparedRequest, event_name: str, **_: Any) -> AWSResponse | None:
        operation = event_name.rpartition(".")[2]
        body = body_of(request)
        with self._lock:
            self.sent.append(Sent(operation, orjson.loads(body)))
            plans = (fates for about, fates in self._plans[operation] if about in body and fates)
            fates = next(plans, None)
            fate = fates.pop(0) if fates else passes
        return fate(request)


# The table


@dataclass
class Table:
    """A table of a service, and clients of it.

    Attributes:
        url: The service.
        name: The table's name.
        client: What logs are opened with.
        wire: What that client sends.
        direct: A client that goes round the wire.
    """

    url: str
    name: str
    client: DynamoDBClient
    wire: Wire
    direct: DynamoDBClient
    _open: ExitStack

    def open(self, table: str = "users", **options: Any) -> DynamoDBEventLog:
        """A log over this wire, closed at the end; with `client=None` one that makes its own client."""
        given: dict[str, Any] = {"client": self.client, **options}
        if given["client"] is None:
            given = {"region": servers.REGION, "endpoint_url": self.url, **given}
        return self._open.enter_context(DynamoDBEventLog(self.name, table, **given))

    def another(self, table: str = "users", **options: Any) -> DynamoDBEventLog:
        """Another process's log: none of its requests is seen by the wire."""
        return self.open(table, client=self.direct, **options)

    def layer(self, folder: Path, log: DynamoDBEventLog | None = None, **options: Any) -> Layer:
        """A layer over a log, with its segments in a folder; closed at the end."""
        given: dict[str, Any] = {
            "table": "users",
            "get_item_unique_identifier": "id",
            "events": log or self.open(),
            "storage": LocalAdapter(folder),
            **options,
        }
        return self._open.enter_context(Layer(**given))

    def rows(self, partition: str | None = "eu", table: str = "users") -> dict[str, Row]:
        """What is stored of a partition, or with None of the layer itself, by sort key."""
        pk = rows.layer_key(table) if partition is None else rows.partition_key(table, partition)
        found: dict[str, Row] = {}
        start: dict[str, Any] = {}
        while True:
            page: Any = self.direct.query(
                TableName=self.name,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues={":pk": {"S": pk}},
                ConsistentRead=True,
                **start,
            )
            found |= {row["sk"]["S"]: row for row in page["Items"]}
            if "LastEvaluatedKey" not in page:
                return found
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def nonces(self, partition: str = "eu") -> list[str]:
        """The nonces of a partition's records, which must be dense."""
        records = {sk: row for sk, row in self.rows(partition).items() if sk.isdecimal()}
        assert list(records) == [rows.slot(number) for number in range(1, len(records) + 1)]
        return [row["nonce"]["S"] for row in records.values()]

    def put(self, row: Row) -> None:
        """Write a row behind the log's back."""
        self.direct.put_item(TableName=self.name, Item=row)

    def delete(self, *sks: str, partition: str | None = "eu") -> None:
        """Delete rows behind the log's back, as the service does with those whose ttl has passed."""
        pk = rows.layer_key("users") if partition is None else rows.partition_key("users", partition)
        for sk in sks:
            self.direct.delete_item(TableName=self.name, Key=rows.key_of(pk, sk))


@contextmanager
def fresh(url: str, *, behind: str | None = None, **options: Any) -> Iterator[Table]:
    """A table at a URL; where a proxy is there, `behind` is the service that the direct client asks."""
    with ExitStack() as stack:
        direct = stack.enter_context(closing(servers.dynamodb_client(behind or url)))
        client = stack.enter_context(closing(client_of(url, **options)))
        wire = Wire()
        wire.attach(client)
        name = stack.enter_context(servers.fresh_table(direct))
        yield Table(url, name, client, wire, direct, stack.enter_context(ExitStack()))


def client_of(url: str, **options: Any) -> DynamoDBClient:
    """A client that tries once, or as its options say."""
    if not options:
        return servers.dynamodb_client(url)
    from botocore.config import Config  # noqa: PLC0415 -- heavy, and few tests need it

    return servers.session().client("dynamodb", endpoint_url=url, region_name=servers.REGION, config=Config(**options))


def draft(nonce: str, partition: str = "eu", *, payload: bytes = b"events", **more: Any) -> Draft:
    given: dict[str, Any] = {"kind": RecordKind.CHANGES, "at": 1, "count": 1, "retention": 86_400, **more}
    return Draft(partition=partition, nonce=nonce, payload=payload, **given)


def append(log: EventLog, nonce: str, partition: str = "eu", **more: Any) -> int:
    """Append a record; its version."""
    (appended,) = log.append([draft(nonce, partition, **more)])
    return appended.version


def cursor(sync: int) -> str:
    """The cursor of a test's sync of that number."""
    return to_iso(1_800_000_000_000_000 + sync)


def segment(version: int, sync: int = 1) -> SegmentRef:
    """A base as a head names it. No store has it."""
    return SegmentRef(f"ref-{version}-{sync}", "base", 0, version, 1, f"name-{version}-{sync}", cursor(sync), 1)


def folds(
    log: EventLog, partition: str = "eu", *, sync: int = 1, first: bool = True, retires: bool = False
) -> HeadMove:
    """The move by which a sync folds all that a partition has."""
    head = log.head(partition)
    records = log.read(partition, head.version).records
    last = records[-1]
    moved = Head(
        version=last.version,
        revision=head.revision + 1,
        segments=(segment(last.version, sync),),
        events_total=last.events_total,
        bytes_total=last.bytes_total,
        at=last.at,
        cursor=cursor(sync),
        synced_times=head.synced_times + 1,
        synced_last_total=sum(record.count for record in records),
        retention=86_400,
    )
    retired = (OldSegment(segment(head.version, 0), 1, 2),) if retires else ()
    return HeadMove(head.revision, moved, retired, folded=moved.synced_last_total, first=first)


@dataclass
class Clocks:
    """Stands for the module `time` where the log looks at its clocks. The test moves them; nobody waits.

    `awake` alone stands still while a machine sleeps.
    """

    boot: float = 50_000.0
    wall: float = 1_800_000_000.0
    awake: float = 20_000.0
    waits: list[float] = field(default_factory=list)

    def clock_gettime(self, which: int) -> float:
        return self.boot

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.awake

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def advance(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += seconds
        self.awake += seconds
