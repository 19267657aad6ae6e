"""Several segments as one: of each identifier the newest row, without making an item of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dynalayer.columns.contract import ID, ITEM, Columns
from dynalayer.columns.items import BATCH_BYTES, ROWS, leaves_out, schema_of, values_in
from dynalayer.columns.types import array_of, cast, casts, common_field
from dynalayer.segments import SegmentHeader

__all__ = ["Newest", "Overlay", "common_schema", "fitted", "needs_items", "without_deletions"]

_LARGE = {pa.string(): pa.large_string(), pa.binary(): pa.large_binary()}


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
        filter: pc.Expression | None = None,  # noqa: ARG002 -- an older row that does not match may hide a newer one
    ) -> Iterator[pa.RecordBatch]:
        """See `Columns`."""
        self._entries = 0
        changed = Overlay(self._schema, self._sources[1:])
        for batch in self._merged(changed):
            rows = without_deletions(batch) if self._header.kind == "base" else batch
            self._entries += len(rows)
            yield rows if columns is None else rows.select(list(columns))

    def _merged(self, changed: Overlay) -> Iterator[pa.RecordBatch]:
        for batch in self._sources[0].batches():
            if len(batch):
                yield from changed.put_over(fitted(batch, self._sources[0].schema, self._schema))
        yield from changed.rest()


class Overlay:
    """The newest rows of deltas, in memory, put over what came before, batch by batch in order of `ID`.

    Args:
        schema: Of all of it.
        deltas: Oldest first.
    """

    def __init__(self, schema: pa.Schema, deltas: Sequence[Columns]) -> None:
        self._schema = schema
        found = [fitted(batch, delta.schema, schema) for delta in reversed(deltas) for batch in delta.batches()]
        # All of them may hold more than two gigabytes of text.
        large = pa.schema([field.with_type(_LARGE.get(field.type, field.type)) for field in schema])
        self._rows = _first_of_each(pa.Table.from_batches(found, schema).cast(large)).sort_by(ID)
        self._step = max(1, min(ROWS, BATCH_BYTES * len(self._rows) // max(1, self._rows.nbytes)))
        self._put = 0

    @property
    def ids(self) -> pa.ChunkedArray:
        """The identifiers that it speaks of."""
        return self._rows.column(ID).cast(pa.string())

    def put_over(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """The rows of a batch, and those that stand in their place or between them."""
        ids = batch.column(ID)
        # Both sides are sorted: what belongs here is what follows what was put before, through the batch's last.
        count = _through(self._rows.column(ID).slice(self._put), ids[-1])
        start = 0
        for changed in self._taken(count):
            upto = start + _through(ids.slice(start), changed.column(ID)[-1])
            older = batch.slice(start, upto - start)
            kept = older.filter(pc.invert(pc.is_in(older.column(ID), changed.column(ID))))
            yield from pa.Table.from_batches([kept, changed], self._schema).sort_by(ID).combine_chunks().to_batches()
            start = upto
        if start < len(batch):
            yield batch.slice(start)

    def rest(self) -> Iterator[pa.RecordBatch]:
        """The rows that come after all batches."""
        yield from self._taken(len(self._rows) - self._put)

    def _taken(self, count: int) -> Iterator[pa.RecordBatch]:
        """The next so many rows, a bounded number of them at a time."""
        end = self._put + count
        while self._put < end:
            rows = self._rows.slice(self._put, min(self._step, end - self._put))
            self._put += len(rows)
            (batch,) = rows.cast(self._schema).combine_chunks().to_batches()
            yield batch


def _through(ids: pa.Array | pa.ChunkedArray, last: pa.Scalar) -> int:
    """How many of sorted identifiers come no later than one."""
    count: int = pc.sum(pc.less_equal(ids, pa.scalar(last.as_py(), ids.type))).as_py() or 0
    return count


def _first_of_each(rows: pa.Table) -> pa.Table:
    """Of rows with the same identifier the first."""
    if pc.count_distinct(rows.column(ID)).as_py() == len(rows):
        return rows
    numbered = pa.table({ID: rows.column(ID), "row": pa.array(range(len(rows)), pa.int64())})
    return rows.take(numbered.group_by(ID).aggregate([("row", "min")]).column("row_min"))


def without_deletions(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows that are no deletions."""
    return batch.filter(batch.column(ITEM).is_valid()) if batch.column(ITEM).null_count else batch


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The schema that holds what segments of several schemas hold."""
    fields: dict[str, list[Any]] = {}
    for schema in schemas:
        for field in schema:
            fields.setdefault(field.name, []).append(field)
    attributes = [common_field(each) for name, each in fields.items() if name not in (ID, ITEM)]
    return schema_of(attributes, left_out=any(map(leaves_out, schemas)))


def needs_items(source: pa.Schema, target: pa.Schema) -> bool:
    """Whether rows of one schema can be rows of another only by what their items say."""
    return any(not _is_told(field, source) for field in target)


def _is_told(field: pa.Field, source: pa.Schema) -> bool:
    if field.name in (ID, ITEM):
        return True
    return casts(source.field(field.name), field) if field.name in source.names else not leaves_out(source)


def fitted(batch: pa.RecordBatch, source: pa.Schema, target: pa.Schema) -> pa.RecordBatch:
    """A batch of one schema in another that holds it.

    Null where an attribute has no column in the segment, and from the items where its column does not say enough.

    Args:
        batch: Columns of a segment; `ITEM` among them where it `needs_items`.
        source: The whole segment's schema.
        target: The schema.
    """
    untold = [field for field in target if not _is_told(field, source)]
    values = values_in(batch.column(ITEM), [field.name for field in untold]) if untold else []
    derived = {field.name: array_of(field, each) for field, each in zip(untold, values, strict=True)}
    arrays = [
        derived[field.name]
        if field.name in derived
        else cast(batch.column(field.name), source.field(field.name), field)
        if field.name in source.names
        else pa.nulls(len(batch), field.type)
        for field in target
    ]
    return pa.record_batch(arrays, schema=target)
