"""Columns that are read once, and columns that are read on after a failure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from dynalayer import SegmentCorruptError, SegmentHeader, SegmentMissingError
from dynalayer.columns import ID, Columns
from dynalayer_retry.tries import Tries

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

__all__ = ["ReadOnce", "RetriedColumns"]


class _Columns:
    """Other columns, passed on."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns

    @property
    def header(self) -> SegmentHeader:
        """See `Columns`."""
        return self._columns.header

    @property
    def schema(self) -> pa.Schema:
        """See `Columns`."""
        return self._columns.schema

    @property
    def entries(self) -> int:
        """See `Columns`."""
        return self._columns.entries


class ReadOnce(_Columns):
    """Columns that tell whether their batches were asked for.

    Attributes:
        taken: Whether they were.
    """

    def __init__(self, columns: Columns) -> None:
        super().__init__(columns)
        self.taken = False

    def batches(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See `Columns`."""
        self.taken = True
        yield from self._columns.batches(columns, filter)


class RetriedColumns(_Columns):
    """A segment by columns that is opened anew when a batch cannot be read, and goes on behind the last row given.

    That is right since a segment never changes and its rows come in the order of their identifiers, each once.

    Args:
        tries: How often and how long.
        opener: Opens the segment.
        columns: What it opened.
        ref: The segment's, for errors.
    """

    def __init__(self, tries: Tries, opener: Callable[[], Columns | None], columns: Columns, ref: str) -> None:
        super().__init__(columns)
        self._tries = tries
        self._opener = opener
        self._ref = ref

    def batches(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See `Columns`."""
        names = None if columns is None else list(columns)
        added = names is not None and ID not in names
        asked = [*names, ID] if names is not None and added else names
        reading = _Reading(self._columns, self._reopened, asked, filter)
        # In all of a reading: each opening may cost what was read so far once more.
        most = self._tries.limits.attempts - 1
        while True:
            batch = self._tries.call("reading by columns", reading.next, unless=lambda: reading.opened >= most)
            if batch is None:
                return
            yield batch.select(names) if added else batch

    def _reopened(self) -> Columns:
        columns, before = self._opener(), self._columns
        if columns is None:
            raise SegmentMissingError(f"{self._ref!r} was opened by columns, and is gone while it is read")
        if (columns.header, columns.entries) != (before.header, before.entries) or columns.schema != before.schema:
            raise SegmentCorruptError(f"{self._ref!r} has become another segment while it was read by columns")
        return columns


class _Reading:
    """One reading of a segment's rows, that can be taken up again.

    Args:
        columns: The opened segment.
        reopened: Opens it again.
        names: The columns to read, `ID` among them; None for all.
        filter: As it was asked for.

    Attributes:
        opened: How often it was opened again.
    """

    def __init__(
        self, columns: Columns, reopened: Callable[[], Columns], names: list[str] | None, filter: pc.Expression | None
    ) -> None:
        self.opened = 0
        self._reopened = reopened
        self._names = names
        self._filter = filter
        self._last: str | None = None  # identifier of the last row given
        self._rows: Iterator[pa.RecordBatch] | None = columns.batches(names, filter)

    def next(self) -> pa.RecordBatch | None:
        """The next batch; None after the last. After a failure it begins behind the last row given."""
        try:
            if self._rows is None:
                self.opened += 1
                self._rows = self._behind(self._reopened().batches(self._names, self._filter))
            batch = next(self._rows, None)
        except BaseException:
            self._rows = None
            raise
        if batch is not None and len(batch):
            self._last = batch.column(ID)[-1].as_py()
        return batch

    def _behind(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        last = self._last
        for batch in batches:
            start = 0 if last is None else _position(batch, last)
            if start < len(batch):
                yield batch.slice(start)


def _position(batch: pa.RecordBatch, last: str) -> int:
    """Where the rows above an identifier begin."""
    ids = batch.column(ID)
    return bisect_right(range(len(batch)), last, key=lambda position: ids[position].as_py())
