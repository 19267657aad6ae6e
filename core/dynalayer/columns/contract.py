"""A segment by columns: what is in it, and what whoever keeps one promises."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from dynalayer.segments import SegmentHeader

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

__all__ = ["ID", "ITEM", "Columns"]

ID = "$id"
"""The column of identifiers: text, never null, each once, rising."""

ITEM = "$item"
"""The column that brings items back exactly: JSON as segments write it; null where a delta deletes the item."""


@runtime_checkable
class Columns(Protocol):
    """A segment by columns: `ID`, `ITEM`, and one for each attribute, which says of an item what its type can say.

    Attributes:
        header: What the segment says of itself.
        schema: Its Arrow schema; `ID` and `ITEM` first, then attributes by name. Kept with its metadata, and that of
            its fields, in which this package says what the types do not.
        entries: Its rows. Of what is put together while it is read: those read so far.
    """

    @property
    def header(self) -> SegmentHeader:
        """See the class."""
        ...

    @property
    def schema(self) -> pa.Schema:
        """See the class."""
        ...

    @property
    def entries(self) -> int:
        """See the class."""
        ...

    def batches(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows, in order of `ID`, a bounded number of them at a time.

        Args:
            columns: Names of the schema; only these are read, in this order. Left out, all.
            filter: Rows for which it does not hold may be left out, and whoever asks looks again: what certainly
                cannot match need not be read.

        Raises:
            StorageError: As a getter raises it.
        """
        ...
