"""A scan as what other libraries call a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from dynalayer.optional import need

if TYPE_CHECKING:  # they are needed only by who asks for them
    from pandas import DataFrame
    from polars import DataFrame as PolarsFrame
    from pyarrow import RecordBatchReader
    from pyarrow import Table as ArrowTable

__all__ = ["Scans"]


class Scans(ABC):
    """What can be scanned by columns, and so be had as a table of any library that knows Arrow."""

    @abstractmethod
    def scan(
        self, partition: str = "", *, columns: Sequence[str] | None = None, filter: object = None
    ) -> RecordBatchReader:
        """A partition by columns, batch by batch."""

    @abstractmethod
    def _scanning(
        self, partition: str, columns: Sequence[str] | None, filter: object
    ) -> AbstractContextManager[RecordBatchReader]:
        """A scan that is one operation with what is done inside."""

    def to_arrow(
        self, partition: str = "", *, columns: Sequence[str] | None = None, filter: object = None
    ) -> ArrowTable:
        """All of `scan` as a `pyarrow.Table`."""
        with self._scanning(partition, columns, filter) as reader:
            return reader.read_all()

    def to_pandas(
        self, partition: str = "", *, columns: Sequence[str] | None = None, filter: object = None
    ) -> DataFrame:
        """All of `scan` as a `pandas.DataFrame`."""
        need("pandas", "to_pandas()", packages=("pandas",), install="pandas")
        return self.to_arrow(partition, columns=columns, filter=filter).to_pandas()

    def to_polars(
        self, partition: str = "", *, columns: Sequence[str] | None = None, filter: object = None
    ) -> PolarsFrame:
        """All of `scan` as a `polars.DataFrame`."""
        polars = need("polars", "to_polars()", packages=("polars",), install="polars")
        frame: PolarsFrame = polars.from_arrow(self.to_arrow(partition, columns=columns, filter=filter))
        return frame
