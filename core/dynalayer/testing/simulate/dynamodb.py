"""The DynamoDB log over moto's backend in this process: turns and faults are at each request.

moto keeps to the meaning of conditions and transactions; that it knows no lag, no expiry and no lost answers is made up
for here. A request that comes late is refused once its signature is too old, as the service does.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ReadTimeoutError
from moto.core.botocore_stubber import BotocoreStubber, MockRawResponse
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType

from dynalayer import side_by_side as beside
from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import Appended, Draft, EventLog, Head, HeadMove
from dynalayer.eventlog.dynamodb import DynamoDBEventLog
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.rows import HEAD_KEY, head_of, partition_key, records_of, slot
from dynalayer.eventlog.dynamodb.table import make_table
from dynalayer.testing.simulate.actors import PARTITIONS
from dynalayer.testing.simulate.faults import Process
from dynalayer.testing.simulate.stores import TABLE
from dynalayer.testing.simulate.truth import Truth
from dynalayer.testing.simulate.world import MINUTE, SECOND, World

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["DynamoDBLogs"]

_EVENTS = "simulated-events"
_REGION = "eu-north-1"  # moto keeps regions apart: who else uses it in this process sees nothing of this
_SIGNED = 15 * MINUTE  # for which a signature holds
_WRITING = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})


class DynamoDBLogs:
    """The log in one table, opened anew by each process.

    Args:
        world: Time, chance and turns.
        truth: Is told what took effect.
    """

    def __init__(self, world: World, truth: Truth) -> None:
        self._world = world
        self._truth = truth
        self._processes: dict[str, Process] = {}
        self._heads: dict[str, Head] = {}
        self._versions: dict[str, int] = {}
        self._quiet = True
        # One request at a time: what runs beside the actor would have no turn.
        self._threads = vars(beside)["_THREADS"]
        vars(beside)["_THREADS"] = 1
        self._service = BotocoreStubber()
        self._service.enabled = True
        self._client = _client()
        # After what the log itself looks at before it sends.
        self._client.meta.events.register_last("before-send.dynamodb", self._answer, unique_id=_EVENTS)
        make_table(Connection(_EVENTS, client=self._client))
        self._quiet = False

    @property
    def _table(self) -> Any:
        """The table as it lies in moto: to ask for its rows would take longer than all else.

        A transaction that is cancelled puts another object in its place.
        """
        return dynamodb_backends[DEFAULT_ACCOUNT_ID][_REGION].tables[_EVENTS]

    def open(self, process: Process | None) -> EventLog:
        """See `Logs`."""
        if process is not None:
            self._processes[process.actor.name] = process
        return DynamoDBEventLog(_EVENTS, TABLE, client=self._client)

    def expire(self, moment: int, chosen: float) -> None:
        """See `Logs`."""
        due = [
            (rows, key)
            for _, rows in sorted(self._table.items.items(), key=_by_value)
            for key, item in sorted(rows.items(), key=_by_value)
            if "ttl" in item.attrs and int(item.attrs["ttl"].value) * SECOND <= moment
        ]
        if due:
            rows, key = due[int(chosen * len(due))]
            del rows[key]

    def close(self) -> None:
        """See `Logs`."""
        with self._unnoticed():
            self._client.delete_table(TableName=_EVENTS)
        self._client.meta.events.unregister("before-send.dynamodb", unique_id=_EVENTS)
        vars(beside)["_THREADS"] = self._threads

    def _answer(self, request: AWSPreparedRequest, event_name: str, **_: object) -> Any:
        """What a request of the one client's comes to, for the process whose turn it is."""
        action = event_name.rpartition(".")[2]
        actor = self._world.current
        if self._quiet or actor is None:
            return self._served(request, action)
        sent, process = self._world.now, self._processes[actor.name]

        def serve() -> AWSResponse:
            if self._world.now - sent > _SIGNED:
                process.struck += 1
                return _too_old(request)
            return self._served(request, action)

        def lost() -> Exception:
            return ReadTimeoutError(endpoint_url=request.url)

        method = "pending" if b'"IndexName"' in (request.body or b"") else action
        return process.call(method, serve, lost, serve)

    def _served(self, request: AWSPreparedRequest, action: str) -> AWSResponse:
        answer = self._service("", request)
        if answer is None:
            raise EventLogError(f"moto does not serve {action}")
        if action in _WRITING and not self._quiet:
            self._look()
        return answer

    def _look(self) -> None:
        """Tell the truth what is new in the table."""
        for partition in PARTITIONS:
            rows = self._table.items.get(DynamoType({"S": partition_key(TABLE, partition)}), {})
            stored = {key.value: item for key, item in rows.items()}
            known = self._versions.get(partition, 0)
            new = [_row(item) for key, item in sorted(stored.items()) if slot(known + 1) <= key < HEAD_KEY]
            for record in records_of(new):
                draft = Draft(
                    partition, record.kind, record.nonce, record.at, record.count, record.retention, record.payload
                )
                self._truth.appended(draft, Appended(partition, record.version, record.at))
                self._versions[partition] = record.version
            before = self._heads.get(partition, Head())
            head = head_of(_row(stored[HEAD_KEY]) if HEAD_KEY in stored else None)
            if head.revision != before.revision:
                folded = head.events_total - before.events_total
                self._truth.moved(partition, HeadMove(before.revision, head, folded=folded), self._world.now)
                self._heads[partition] = head

    @contextmanager
    def _unnoticed(self) -> Iterator[None]:
        """What is asked inside is asked by nobody."""
        quiet, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = quiet


def _by_value(entry: tuple[Any, object]) -> str:
    return str(entry[0].value)


def _row(item: Any) -> dict[str, Any]:
    """An item of moto's as a client gives it: bytes are plain."""
    attributes: dict[str, dict[str, Any]] = item.to_json()["Attributes"]
    return {name: {kind: _plain(kind, value)} for name, each in attributes.items() for kind, value in each.items()}


def _plain(kind: str, value: Any) -> Any:
    return b64decode(value) if kind == "B" and isinstance(value, str) else value


def _too_old(request: AWSPreparedRequest) -> AWSResponse:
    """What the service answers to a request that was signed too long ago."""
    body = json.dumps({"__type": "com.amazon.coral.service#InvalidSignatureException", "message": "Signature expired"})
    headers: Any = {"x-amzn-requestid": "simulated", "content-type": "application/x-amz-json-1.0"}
    return AWSResponse(request.url, 400, headers, MockRawResponse(body))


@cache
def _client() -> DynamoDBClient:
    """One client for all processes and runs: to make one takes longer than most runs."""
    session = boto3.session.Session(
        aws_access_key_id="simulated",
        aws_secret_access_key="simulated",  # noqa: S106 -- it opens nothing
        region_name=_REGION,
    )
    return session.client("dynamodb", config=Config(retries={"mode": "standard", "total_max_attempts": 1}))
