"""Rows by columns as files that other programs read: CSV and Parquet."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import IO

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

__all__ = ["WRITERS"]


def _write_parquet(rows: pa.RecordBatchReader, file: IO[bytes]) -> int:
    with pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:
        return _written(rows, writer.write_batch)


def _write_csv(rows: pa.RecordBatchReader, file: IO[bytes]) -> int:
    """UTF-8 with a line of names; null is nothing between commas, an empty text is quoted, bytes are base64."""
    schema = pa.schema(
        [pa.field(field.name, pa.string()) if pa.types.is_binary(field.type) else field for field in rows.schema]
    )
    with pacsv.CSVWriter(file, schema) as writer:
        return _written(rows, lambda batch: writer.write_batch(_with_text(batch, schema)))


WRITERS: Mapping[str, Callable[[pa.RecordBatchReader, IO[bytes]], int]] = {
    "csv": _write_csv,
    "parquet": _write_parquet,
}
"""Format to what writes all rows to a file, a batch in memory at a time, and tells how many they were."""


def _written(rows: Iterator[pa.RecordBatch], write: Callable[[pa.RecordBatch], None]) -> int:
    count = 0
    for batch in rows:
        if len(batch):
            write(batch)
            count += len(batch)
    return count


def _with_text(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([_as_text(column) for column in batch.columns], schema=schema)


def _as_text(column: pa.Array) -> pa.Array:
    if not pa.types.is_binary(column.type):
        return column
    return pa.array([None if value is None else b64encode(value).decode() for value in column.to_pylist()], pa.string())
