"""From items to columns and back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from dynalayer.bulk import paused_collector
from dynalayer.columns.contract import ID, ITEM
from dynalayer.columns.types import array_of, field_of, items_with
from dynalayer.segments import Segment, SegmentHeader
from dynalayer.values import Item, item_decoder, item_to_json

__all__ = ["BATCH_BYTES", "MAX_COLUMNS", "ROWS", "SegmentColumns", "leaves_out", "schema_of", "segment_of", "values_in"]

MAX_COLUMNS = 1000
"""Attributes that get a column at most: the ones that most items have."""

ROWS = 65_536
"""Rows of a batch at most."""

BATCH_BYTES = 32 * 1024 * 1024
"""About how large a batch is at most, counted as the JSON of its items."""

_LEFT_OUT = b"dynalayer.left_out"  # of a schema's metadata: that attributes have no column
_WEIGHED = 64
_DENSE = 8  # one of so many items has an attribute: then it is looked for in every item


class SegmentColumns:
    """A segment's items as columns, typed by their values; see `Columns`.

    Args:
        segment: The segment. It is held, not copied.
    """

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._ids = sorted([*segment.items, *segment.deleted])
        with paused_collector():
            self._sparse, counts = _sparse_values(segment.items)
            items = segment.items.values()
            fields = []
            for name, count in counts.items():
                found = self._sparse.get(name)
                values = [item.get(name) for item in items] if found is None else list(found.values())
                fields.append(field_of(name, values, items=count))
        self._schema = schema_of(fields)
        self._rows = _rows_of(segment.items)

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
        filter: pc.Expression | None = None,  # noqa: ARG002 -- all is in memory: nothing is saved by leaving out
    ) -> Iterator[pa.RecordBatch]:
        """See `Columns`."""
        wanted = self._schema.names if columns is None else list(columns)
        schema = pa.schema([self._schema.field(name) for name in wanted])
        for start in range(0, len(self._ids), self._rows):
            ids = self._ids[start : start + self._rows]
            items = [self._segment.items.get(identifier) for identifier in ids]
            with paused_collector():
                arrays = [self._array(name, ids, items) for name in wanted]
            yield pa.record_batch(arrays, schema=schema)

    def _array(self, name: str, ids: Sequence[str], items: Sequence[Item | None]) -> pa.Array:
        if name == ID:
            return pa.array(ids, pa.string())
        if name == ITEM:
            return pa.array([None if item is None else _json(item) for item in items], pa.string())
        sparse = self._sparse.get(name)
        values = (
            [None if item is None else item.get(name) for item in items]
            if sparse is None
            else list(map(sparse.get, ids))
        )
        return array_of(self._schema.field(name), values)


def _sparse_values(items: Mapping[str, Item]) -> tuple[dict[str, dict[str, Any]], dict[str, int]]:
    """The values of attributes that few items have, by attribute and identifier; and how many items have each."""
    found: dict[str, dict[str, Any]] = {}
    counts: dict[str, int] = {}
    limit = len(items) // _DENSE
    for identifier, item in items.items():
        for name, value in item.items():
            count = counts[name] = counts.get(name, 0) + 1
            if count <= limit:
                found.setdefault(name, {})[identifier] = value
    return {name: values for name, values in found.items() if counts[name] <= limit}, counts


def _rows_of(items: Mapping[str, Item]) -> int:
    """How many rows a batch may have, judged by the size of some items."""
    some = list(itertools.islice(items.values(), 0, None, max(1, len(items) // _WEIGHED)))
    each = sum(len(_json(item)) for item in some) // max(1, len(some))
    return max(1, min(ROWS, BATCH_BYTES // max(1, each)))


def _json(item: Item) -> bytes:
    return orjson.dumps(item_to_json(item), option=orjson.OPT_SORT_KEYS)


def schema_of(fields: Iterable[pa.Field], *, left_out: bool = False) -> pa.Schema:
    """The schema of a segment with these attributes, or as many of them as get a column.

    None begins with `$`, which marks what is not an attribute. Of names that differ in capitals alone the one that most
    items have gets it, since SQL engines take them for the same.

    Args:
        fields: Those of its attributes.
        left_out: Whether there are others, which have none already.
    """
    fields = sorted(fields, key=lambda field: (-items_with(field), field.name))
    distinct: dict[str, pa.Field] = {}
    for field in fields:
        if field.name and not field.name.startswith("$"):
            distinct.setdefault(field.name.casefold(), field)
    kept = sorted(itertools.islice(distinct.values(), MAX_COLUMNS), key=lambda field: field.name)
    left_out = left_out or len(kept) < len(fields)
    first = (pa.field(ID, pa.string(), nullable=False), pa.field(ITEM, pa.string()))
    return pa.schema([*first, *kept], metadata={_LEFT_OUT: b"yes"} if left_out else None)


def leaves_out(schema: pa.Schema) -> bool:
    """Whether items of a segment with this schema may have attributes without a column."""
    metadata: dict[bytes, bytes] = schema.metadata or {}
    return _LEFT_OUT in metadata


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


def values_in(items: pa.Array, names: Sequence[str]) -> list[list[Any]]:
    """For each of some attributes its values in items as the column `ITEM` has them; None where there is none."""
    decoded = iter(_decoded(items.drop_null()))
    found = [{} if missing else next(decoded) for missing in items.is_null().to_pylist()]
    return [[item.get(name) for item in found] for name in names]


def _decoded(array: pa.Array) -> Iterator[Any]:
    with paused_collector():
        text = b"[" + b",".join(array.cast(pa.binary()).to_pylist()) + b"]"
        return map(item_decoder(text), orjson.loads(text))
