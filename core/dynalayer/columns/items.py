"""From items to columns and back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dynalayer.bulk import paused_collector
from dynalayer.columns.contract import ID, ITEM
from dynalayer.columns.types import array_of, field_of
from dynalayer.segments import Segment, SegmentHeader
from dynalayer.values import Item, item_decoder, item_to_json

__all__ = ["MAX_COLUMNS", "ROWS", "SegmentColumns", "attribute_names", "schema_of", "segment_of"]

MAX_COLUMNS = 1000
"""Attributes that get a column at most: the ones that most items have."""

ROWS = 65_536
"""Rows of a batch at most."""


class SegmentColumns:
    """A segment's items as columns, typed by their values; see `Columns`.

    Args:
        segment: The segment. It is held, not copied.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._ids = sorted([*segment.items, *segment.deleted])
        items = segment.items.values()
        fields = [
            field_of(name, [item.get(name) for item in items]) for name in attribute_names(Counter(_names(items)))
        ]
        self._schema = schema_of(fields)

    @property
    def header(self) -> SegmentHeader:
        """See `Columns`."""
        return self._segment.header

    @property
    def schema(self) -> pa.Schema:
        """See `Columns`."""
        return self._schema

    @property
    def entries(self) -> int:
        """See `Columns`."""
        return self._segment.entries

    def batches(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See `Columns`."""
        wanted = self._schema.names if columns is None else list(columns)
        for start in range(0, len(self._ids), ROWS):
            # What the filter looks at may be among what is not asked for.
            batch = self._batch(self._ids[start : start + ROWS], wanted if filter is None else self._schema.names)
            yield batch if filter is None else batch.filter(filter).select(wanted)

    def _batch(self, ids: Sequence[str], wanted: Sequence[str]) -> pa.RecordBatch:
        items = [self._segment.items.get(identifier) for identifier in ids]
        with paused_collector():
            arrays = [self._array(name, ids, items) for name in wanted]
        return pa.record_batch(arrays, schema=pa.schema([self._schema.field(name) for name in wanted]))

    def _array(self, name: str, ids: Sequence[str], items: Sequence[Item | None]) -> pa.Array:
        if name == ID:
            return pa.array(ids, pa.string())
        if name == ITEM:
            return pa.array([None if item is None else _json(item) for item in items], pa.string())
        return array_of(self._schema.field(name), [None if item is None else item.get(name) for item in items])


def _json(item: Item) -> bytes:
    return orjson.dumps(item_to_json(item), option=orjson.OPT_SORT_KEYS)


def _names(items: Iterable[Item]) -> Iterator[str]:
    return itertools.chain.from_iterable(items)


def attribute_names(counts: Mapping[str, int]) -> list[str]:
    """The attributes that get a column, by name, of those that so many items have.

    None begins with `$`, which marks what is not an attribute. Of names that differ in capitals alone the first gets
    one, since SQL engines take them for the same.
    """
    distinct = {name.casefold(): name for name in sorted(counts, reverse=True) if name and not name.startswith("$")}
    return sorted(sorted(distinct.values(), key=lambda name: (-counts[name], name))[:MAX_COLUMNS])


def schema_of(fields: Iterable[pa.Field]) -> pa.Schema:
    """The schema of a segment with columns for these attributes."""
    return pa.schema([pa.field(ID, pa.string(), nullable=False), pa.field(ITEM, pa.string()), *fields])


def segment_of(header: SegmentHeader, batches: Iterable[pa.RecordBatch]) -> Segment:
    """The segment whose columns `ID` and `ITEM` these are.

    Raises:
        ValueError: They are none; a TypeError, KeyError and the like too: all of `dynalayer.values.UNDECODABLE`.
    """
    items: dict[str, Item] = {}
    deleted: set[str] = set()
    for batch in batches:
        ids: list[str] = batch.column(ID).to_pylist()
        gone = batch.column(ITEM).is_null()
        if gone.true_count:
            deleted.update(itertools.compress(ids, gone.to_pylist()))
            ids = list(itertools.compress(ids, pc.invert(gone).to_pylist()))
        items.update(zip(ids, _decoded(batch.column(ITEM).drop_null()), strict=True))
    return Segment(
        header.table,
        header.partition,
        header.origin,
        header.kind,
        header.from_version,
        header.to_version,
        items,
        frozenset(deleted),
        header.name,
    )


def _decoded(array: pa.Array) -> Iterator[Any]:
    with paused_collector():
        text = b"[" + b",".join(array.cast(pa.binary()).to_pylist()) + b"]"
        return map(item_decoder(text), orjson.loads(text))
