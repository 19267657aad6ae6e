"""The source table, written together with its events, for asyncio and trio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dynalayer.aio.calling import Calls
from dynalayer.events import Event
from dynalayer.values import Item

if TYPE_CHECKING:  # it needs boto3, which is an extra
    from boto3.dynamodb.conditions import ConditionBase
    from mypy_boto3_dynamodb.service_resource import Table

    from dynalayer.capturing import CapturedTable
    from dynalayer.capturing.batches import BatchWriter

__all__ = ["AsyncBatchWriter", "AsyncCapturedTable"]


class AsyncCapturedTable:
    """A `CapturedTable` whose writes are coroutines; `AsyncLayer.table` makes it.

    A write that is cancelled before its turn did nothing; one that has begun is settled first, as `AsyncLayer.set`.

    Attributes:
        source: boto3's own `Table`.
    """

    def __init__(self, calls: Calls, table: CapturedTable) -> None:
        self.source: Table = table.source
        self._calls = calls
        self._table = table

    def __repr__(self) -> str:
        return f"Async{self._table!r}"

    async def put_item(
        self,
        *,
        Item: Item,  # noqa: N803 -- boto3's name, as those below
        ConditionExpression: str | ConditionBase | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        **others: object,
    ) -> list[Event]:
        """As `CapturedTable.put_item`."""
        return await self._write(
            self._table.put_item,
            Item=Item,
            ConditionExpression=ConditionExpression,
            ExpressionAttributeNames=ExpressionAttributeNames,
            ExpressionAttributeValues=ExpressionAttributeValues,
            **others,
        )

    async def delete_item(
        self,
        *,
        Key: Item,  # noqa: N803
        ConditionExpression: str | ConditionBase | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        **others: object,
    ) -> list[Event]:
        """As `CapturedTable.delete_item`."""
        return await self._write(
            self._table.delete_item,
            Key=Key,
            ConditionExpression=ConditionExpression,
            ExpressionAttributeNames=ExpressionAttributeNames,
            ExpressionAttributeValues=ExpressionAttributeValues,
            **others,
        )

    async def update_item(
        self,
        *,
        Key: Item,  # noqa: N803
        UpdateExpression: str,  # noqa: N803
        ConditionExpression: str | ConditionBase | None = None,  # noqa: N803
        ExpressionAttributeNames: Mapping[str, str] | None = None,  # noqa: N803
        ExpressionAttributeValues: Mapping[str, Any] | None = None,  # noqa: N803
        **others: object,
    ) -> list[Event]:
        """As `CapturedTable.update_item`."""
        return await self._write(
            self._table.update_item,
            Key=Key,
            UpdateExpression=UpdateExpression,
            ConditionExpression=ConditionExpression,
            ExpressionAttributeNames=ExpressionAttributeNames,
            ExpressionAttributeValues=ExpressionAttributeValues,
            **others,
        )

    def batch_writer(
        self, overwrite_by_pkeys: Sequence[str] | None = None, *, actions: int | None = None
    ) -> AsyncBatchWriter:
        """As `CapturedTable.batch_writer`, but an asynchronous context manager: `async with table.batch_writer()`.

        What was put is written at its end, also where it is cancelled.
        """
        named = {} if actions is None else {"actions": actions}
        return AsyncBatchWriter(self._calls, self._table.batch_writer(overwrite_by_pkeys, **named))

    async def _write(self, call: Callable[..., list[Event]], **arguments: Any) -> list[Event]:
        return await self._calls.make(partial(call, **arguments))


class AsyncBatchWriter:
    """A `BatchWriter` whose methods are coroutines. Tasks may share one."""

    def __init__(self, calls: Calls, writer: BatchWriter) -> None:
        self._calls = calls
        self._writer = writer
        self._lock = threading.Lock()

    @property
    def written(self) -> int:
        """Writes that are made so far."""
        return self._writer.written

    async def put_item(self, Item: Item) -> None:  # noqa: N803 -- boto3's name
        """As `BatchWriter.put_item`."""
        await self._calls.make(partial(self._alone, self._writer.put_item, Item))

    async def delete_item(self, Key: Item) -> None:  # noqa: N803 -- boto3's name
        """As `BatchWriter.delete_item`."""
        await self._calls.make(partial(self._alone, self._writer.delete_item, Key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end = partial(self._alone, self._writer.__exit__, kind, error, traceback)
        await self._calls.make(end, kept=True)

    def _alone(self, call: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            call(*arguments)
