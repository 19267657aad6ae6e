"""The scanning engine: a partition as it is now, by columns, batch by batch. Needs pyarrow."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dynalayer.columns import ID, ITEM, Columns, SegmentColumns
from dynalayer.columns.newest import Overlay, common_schema, fitted, needs_items, without_deletions
from dynalayer.columns.types import is_same
from dynalayer.current import read_current
from dynalayer.errors import InvalidInputError, LayerError
from dynalayer.eventlog.base import EventLog, Head, Record
from dynalayer.fold import NetChanges
from dynalayer.quoting import quoted
from dynalayer.segments import Segment
from dynalayer.snapshots import changes_of
from dynalayer.storage import Storage
from dynalayer.values import Item

__all__ = ["Scanner"]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A head's segments by columns, oldest first."""

    version: int
    reset: int
    segments: tuple[Columns, ...]


class Scanner:
    """Scans partitions.

    What was acknowledged before a scan began is in it, and nothing that came later: its segments are immutable, and
    the pending events are read before the first batch.

    Args:
        log: The layer's event log.
        storage: The layer's storage.
        items: Gives all items of a partition by identifier, where the adapter has no columns.
    """

    def __init__(self, log: EventLog, storage: Storage, items: Callable[[str], dict[str, Item]]) -> None:
        self._log = log
        self._storage = storage
        self._items = items

    def scan(
        self,
        partition: str,
        columns: Sequence[str] | None,
        filter: object,
    ) -> pa.RecordBatchReader:
        """The rows of a partition; `Layer.scan` says the rest."""
        base, changes = self._sources(partition)
        schema = common_schema([source.schema for source in (base, *changes) if source is not None])
        expression = _expression(filter)
        if not any(source.entries for source in (base, *changes) if source is not None):
            # Any column is as good as another.
            names = [] if columns is None else _texts(columns)
            return pa.RecordBatchReader.from_batches(pa.schema([pa.field(name, pa.null()) for name in names]), [])
        wanted = _wanted(partition, schema, columns)
        _check(partition, schema, expression)
        batches = _rows(base, Overlay(schema, changes), schema, wanted, expression)
        told = pa.schema([schema.field(name) for name in wanted])
        return pa.RecordBatchReader.from_batches(told, _named(partition, batches))

    def _sources(self, partition: str) -> tuple[Columns | None, tuple[Columns, ...]]:
        """What the partition is made of by columns: its base, if it has one, and what came after, oldest first."""
        if not self._storage.capabilities.columns:
            items = self._items(partition)
            return SegmentColumns(self._segment(partition, "base", 0, items, frozenset())), ()
        opened, records = read_current(self._log, partition, partial(self._open, partition))
        base = opened.segments[0] if opened.segments else None
        return base, (*opened.segments[1:], self._pending(partition, opened.version, records))

    def _open(self, partition: str, head: Head) -> _Opened:
        table = self._log.table
        segments = tuple(self._storage.columns(partition, named, table=table) for named in head.segments)
        return _Opened(head.version, head.reset, segments)

    def _pending(self, partition: str, version: int, records: Sequence[Record]) -> Columns:
        net = NetChanges()
        net.add_changes(itertools.chain.from_iterable(changes_of(self._log, partition, each) for each in records))
        return SegmentColumns(self._segment(partition, "delta", version, net.items, frozenset(net.deleted)))

    def _segment(
        self, partition: str, kind: Any, version: int, items: dict[str, Item], deleted: frozenset[str]
    ) -> Segment:
        return Segment(self._log.table, partition, self._log.origin, kind, version, version, items, deleted)


def _named(partition: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    try:
        yield from batches
    except LayerError as error:
        raise error.within(operation="scan", partition=partition)  # noqa: B904 -- the same error


def _rows(
    base: Columns | None, changed: Overlay, schema: pa.Schema, wanted: list[str], expression: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """The newest rows that match: of the base what no change speaks of, then those of the changes."""
    ids = changed.ids
    looked_at = [] if expression is None else _looked_at(expression, schema, schema.names)
    for batch in () if base is None else _read(base, schema, [ID, *wanted, *looked_at], looked_at, expression):
        rows = batch.filter(pc.invert(pc.is_in(batch.column(ID), ids))) if len(ids) else batch
        yield _matching(rows, expression).select(wanted)
    for batch in changed.rest():
        yield _matching(without_deletions(batch), expression).select(wanted)


def _read(
    base: Columns, schema: pa.Schema, names: list[str], looked_at: list[str], expression: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """Columns of the base as the schema has them; only what these need is read, and what the filter may match."""
    target = pa.schema([schema.field(name) for name in dict.fromkeys(names)])
    asked = [name for name in target.names if name in base.schema.names]
    if needs_items(base.schema, target):
        asked = list(dict.fromkeys([*asked, ITEM]))
    # A filter says of a column of another type something else.
    same = all(name in base.schema.names and is_same(base.schema.field(name), schema.field(name)) for name in looked_at)
    for batch in base.batches(asked, expression if same else None):
        yield fitted(batch, base.schema, target)


def _matching(rows: pa.RecordBatch, expression: pc.Expression | None) -> pa.RecordBatch:
    if expression is None or not len(rows):
        return rows
    try:
        return rows.filter(expression)
    except pa.ArrowException as error:
        raise InvalidInputError(f"the filter cannot be asked of every item: {error}") from error


def _looked_at(expression: pc.Expression, schema: pa.Schema, names: Sequence[str]) -> list[str]:
    """Those of some columns that a filter looks at: without them it does not bind."""
    others = pa.schema([field for field in schema if field.name not in names])
    if not names or _binds(expression, others):
        return []
    if len(names) == 1:
        return list(names)
    middle = len(names) // 2
    return [*_looked_at(expression, schema, names[:middle]), *_looked_at(expression, schema, names[middle:])]


def _binds(expression: pc.Expression, schema: pa.Schema) -> bool:
    """Whether all that a filter looks at is in a schema."""
    try:
        schema.empty_table().filter(expression)
    except pa.ArrowInvalid:
        return False
    return True


def _expression(filter: object) -> pc.Expression | None:
    if filter is None or isinstance(filter, pc.Expression):
        return filter
    try:
        return pq.filters_to_expression(filter)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise InvalidInputError(
            f"filter={quoted(filter, 200)} is no expression of pyarrow's, as pc.field('age') > 30, nor a list of "
            f"triples, as [('age', '>', 30)]: {error}"
        ) from error


def _check(partition: str, schema: pa.Schema, expression: pc.Expression | None) -> None:
    if expression is None:
        return
    if "FieldPath(" in str(expression):  # nothing else tells
        raise InvalidInputError(
            "the filter names a column by its position, and positions change; name it: pc.field('x')"
        )
    try:
        schema.empty_table().filter(expression)
    except (pa.ArrowException, TypeError) as error:
        raise InvalidInputError(
            f"the filter does not fit the columns of {partition!r}: {str(error).partition(chr(10))[0]:.300}; there "
            f"are: {_listed(f'{field.name} ({field.type})' for field in schema)}"
        ) from error


def _texts(columns: object) -> list[str]:
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        raise InvalidInputError(f"columns is a list of attribute names, not {quoted(columns)}")
    names = list(columns)
    for name in names:
        if not isinstance(name, str):
            raise InvalidInputError(f"columns is a list of attribute names; {quoted(name)} is none")
    if len(set(names)) < len(names):
        raise InvalidInputError(f"columns names one twice: {', '.join(names)}")
    return names


def _wanted(partition: str, schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return [name for name in schema.names if name not in (ID, ITEM)]
    names = _texts(columns)
    for name in names:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, 3) or schema.names
            raise InvalidInputError(
                f"no item of {partition!r} has a column {quoted(name)}; there are: {_listed(near)}. Attributes whose "
                "name begins with $ have none, nor has any but one of those that differ in capitals alone, or are not "
                "among the thousand that most items have"
            )
    return names


def _listed(names: Iterable[str]) -> str:
    """Names in an error: some of them, and each as far as it is readable."""
    shown = list(itertools.islice(names, 21))
    return ", ".join([name[:60] for name in shown[:20]] + ["…"] * (len(shown) > 20))
