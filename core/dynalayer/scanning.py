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
from dynalayer.columns.newest import Overlay, common_schema, fitted
from dynalayer.columns.types import is_same
from dynalayer.current import read_current
from dynalayer.errors import InvalidInputError
from dynalayer.eventlog.base import EventLog, Head, Record
from dynalayer.fold import NetChanges
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
        if not set(schema.names) - {ID, ITEM}:  # without items any column is as good as another
            names = [] if columns is None else _texts(columns)
            return pa.RecordBatchReader.from_batches(pa.schema([pa.field(name, pa.null()) for name in names]), [])
        wanted = _wanted(partition, schema, columns)
        _check(partition, schema, expression)
        batches = _rows(base, Overlay(schema, changes), schema, wanted, expression)
        return pa.RecordBatchReader.from_batches(pa.schema([schema.field(name) for name in wanted]), batches)

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


def _rows(
    base: Columns | None, changed: Overlay, schema: pa.Schema, wanted: list[str], expression: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """The newest rows that match: of the base what no change speaks of, then those of the changes."""
    for batch in () if base is None else _matching(base, schema, wanted, expression):
        rows = batch.filter(pc.invert(pc.is_in(batch.column(ID), changed.ids))) if len(changed.ids) else batch
        yield rows.select(wanted)
    for batch in changed.rest():
        rows = batch.filter(pc.field(ITEM).is_valid())
        yield (rows if expression is None else rows.filter(expression)).select(wanted)


def _matching(
    base: Columns, schema: pa.Schema, wanted: list[str], expression: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    """The base's rows that match, with `ID` and the columns wanted; only what these need is read."""
    names = list(dict.fromkeys((ID, *wanted)))
    same = pa.schema(
        [field for field in base.schema if field.name in schema.names and is_same(field, schema.field(field.name))]
    )
    if expression is None or _binds(expression, same):
        target = pa.schema([schema.field(name) for name in names])
        for batch in base.batches([name for name in names if name in base.schema.names], expression):
            yield fitted(batch, target)
    else:  # what the filter looks at has another type here, or is not here
        for batch in base.batches():
            yield fitted(batch, schema).filter(expression).select(names)


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
            f"filter={filter!r:.200} is no expression of pyarrow's, as pc.field('age') > 30, nor a list of triples, as "
            f"[('age', '>', 30)]: {error}"
        ) from error


def _check(partition: str, schema: pa.Schema, expression: pc.Expression | None) -> None:
    if expression is None:
        return
    try:
        schema.empty_table().filter(expression)
    except (pa.ArrowException, TypeError) as error:
        raise InvalidInputError(
            f"the filter does not fit the columns of {partition!r}: {str(error).partition(chr(10))[0]}; there are: "
            f"{', '.join(f'{field.name} ({field.type})' for field in schema)}"
        ) from error


def _texts(columns: object) -> list[str]:
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        raise InvalidInputError(f"columns is a list of attribute names, not {columns!r:.100}")
    names = list(columns)
    for name in names:
        if not isinstance(name, str):
            raise InvalidInputError(f"columns is a list of attribute names; {name!r:.100} is none")
    if len(set(names)) < len(names):
        raise InvalidInputError(f"columns names one twice: {', '.join(names)}")
    return names


def _wanted(partition: str, schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    if columns is None:
        return [name for name in schema.names if name not in (ID, ITEM)]
    names = _texts(columns)
    for name in names:
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, 3) or schema.names[:20]
            raise InvalidInputError(
                f"no item of {partition!r} has a column {name!r}; there are: {', '.join(near)}. Attributes whose name "
                "begins with $ have none, nor has any but the first of those that differ in capitals alone, or are "
                "not among the thousand that most items have"
            )
    return names
