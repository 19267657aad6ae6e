"""Several segments as one: of each identifier the newest row, without making an item of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dynalayer.columns.contract import ID, ITEM, Columns
from dynalayer.columns.items import attribute_names, schema_of
from dynalayer.columns.types import cast, common_field
from dynalayer.segments import SegmentHeader

__all__ = ["Newest", "Overlay", "common_schema", "fitted"]


class Newest:
    """A base and deltas, or deltas alone, as the one segment that they come to; see `Columns`.

    The first of them is read batch by batch; what changed after it is held in memory.

    Args:
        header: What the one says of itself; deletions are dropped from a base, and kept in a delta.
        sources: The several, oldest first.
    """

    def __init__(self, header: SegmentHeader, sources: Sequence[Columns]) -> None:
        self._header = header
        self._sources = sources
        self._schema = common_schema([source.schema for source in sources])
        self._entries = 0

    @property
    def header(self) -> SegmentHeader:
        """See `Columns`."""
        return self._header

    @property
    def schema(self) -> pa.Schema:
        """See `Columns`."""
        return self._schema

    @property
    def entries(self) -> int:
        """Rows that the last reading gave so far."""
        return self._entries

    def batches(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See `Columns`."""
        self._entries = 0
        changed = Overlay(self._schema, self._sources[1:])
        for batch in self._merged(changed):
            rows = batch.filter(pc.field(ITEM).is_valid()) if self._header.kind == "base" else batch
            self._entries += len(rows)
            found = rows if filter is None else rows.filter(filter)
            yield found if columns is None else found.select(list(columns))

    def _merged(self, changed: Overlay) -> Iterator[pa.RecordBatch]:
        for batch in self._sources[0].batches():
            if len(batch):
                yield changed.put_over(fitted(batch, self._schema))
        yield from changed.rest()


class Overlay:
    """The newest rows of deltas, in memory, put over what came before, batch by batch in order of `ID`.

    Args:
        schema: Of all of it.
        deltas: Oldest first.
    """

    def __init__(self, schema: pa.Schema, deltas: Sequence[Columns]) -> None:
        found = [fitted(batch, schema) for delta in reversed(deltas) for batch in delta.batches()]
        self._rows = _first_of_each(pa.Table.from_batches(found, schema)).sort_by(ID)
        self._put = 0

    @property
    def ids(self) -> pa.ChunkedArray:
        """The identifiers that it speaks of."""
        return self._rows.column(ID)

    def put_over(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of a batch, and those that stand in their place or between them."""
        last = batch.column(ID)[-1]
        # Both sides are sorted: what belongs here is what follows what was put before, through the batch's last.
        count = pc.sum(pc.less_equal(self.ids.slice(self._put), last)).as_py() or 0
        if not count:
            return batch
        changed = self._rows.slice(self._put, count)
        self._put += count
        kept = batch.filter(pc.invert(pc.is_in(batch.column(ID), changed.column(ID))))
        together = pa.Table.from_batches([kept, *changed.to_batches()], batch.schema).sort_by(ID)
        return together.combine_chunks().to_batches()[0]

    def rest(self) -> Iterator[pa.RecordBatch]:
        """The rows that come after all batches."""
        yield from self._rows.slice(self._put).to_batches()


def _first_of_each(rows: pa.Table) -> pa.Table:
    """Of rows with the same identifier the first."""
    if pc.count_distinct(rows.column(ID)).as_py() == len(rows):
        return rows
    numbered = pa.table({ID: rows.column(ID), "row": pa.array(range(len(rows)), pa.int64())})
    return rows.take(numbered.group_by(ID).aggregate([("row", "min")]).column("row_min"))


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The schema that holds what segments of several schemas hold."""
    counts = Counter(name for schema in schemas for name in schema.names if name not in (ID, ITEM))
    return schema_of(
        common_field([schema.field(name) for schema in schemas if name in schema.names])
        for name in attribute_names(counts)
    )


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch in a schema that holds it: cast, and null where it has no such column."""
    if batch.schema.equals(schema):
        return batch
    arrays = [
        cast(batch.column(field.name), batch.schema.field(field.name), field)
        if field.name in batch.schema.names
        else pa.nulls(len(batch), field.type)
        for field in schema
    ]
    return pa.record_batch(arrays, schema=schema)
