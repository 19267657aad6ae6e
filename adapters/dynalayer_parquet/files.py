"""Segments as Parquet files: a column of identifiers, one that brings items back exactly, and one an attribute.

The footer says what the segment is, with a hash of the first two columns, which are all of its truth. The others are
for who reads by columns; each page of the file has a checksum of its own.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import IO, Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from dynalayer import Segment, SegmentCorruptError, SegmentHeader
from dynalayer.columns import ID, ITEM, Columns, segment_of

__all__ = ["ParquetColumns", "read_segment", "write_columns"]

FORMAT = 1
"""Version of the layout."""

_KEY = b"dynalayer"  # of the footer's metadata
_GROUP_ROWS = 32_768
_GROUP_BYTES = 64 * 1024 * 1024
_REPEATED = 0.1  # share of distinct values up to which a dictionary of them saves room and time

_ROTTEN = (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError, OSError, pa.ArrowException)
"""What taking apart a file that nobody checked can raise: pyarrow has no error of its own for it."""


# Writing


def write_columns(file: IO[bytes], columns: Columns) -> None:
    """Write a segment to a local file, in bounded memory.

    Raises:
        StorageError: The columns could not be read.
    """
    groups = _groups(columns.batches())
    first = list(itertools.islice(groups, 1))  # looked at before the file is begun
    repeating = [name for name in columns.schema.names if first and _repeats(first[0].column(name))]
    digest = _Digest()
    with pq.ParquetWriter(
        file,
        columns.schema,
        compression="zstd",
        compression_level=1,  # more costs more time than it saves room
        use_dictionary=repeating,
        write_statistics=[name for name in columns.schema.names if name != ITEM],  # nobody asks for a range of those
        write_page_checksum=True,
    ) as writer:
        for group in itertools.chain(first, groups):
            digest.add(group)
            writer.write_table(group, row_group_size=len(group))
        writer.add_key_value_metadata({_KEY: orjson.dumps(_told(columns.header, columns.entries, digest))})


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together to row groups: neither small ones, which cost requests, nor more than memory should hold."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        step = max(1, min(_GROUP_ROWS, _GROUP_BYTES * len(batch) // max(1, batch.nbytes)))
        for start in range(0, len(batch), step):
            part = batch.slice(start, step)
            held.append(part)
            rows += len(part)
            size += part.nbytes
            if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
                yield pa.Table.from_batches(held)
                held, rows, size = [], 0, 0
    if held:
        yield pa.Table.from_batches(held)


def _repeats(column: pa.ChunkedArray) -> bool:
    return bool(pc.count_distinct(column).as_py() <= _REPEATED * len(column))


class _Digest:
    """A hash of identifiers and items that does not depend on how they come in batches."""

    def __init__(self) -> None:
        self._hashes = [hashlib.sha256() for _ in range(4)]

    def add(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Take in rows."""
        for position, name in enumerate((ID, ITEM)):
            column = rows.column(name)
            for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else [column]:
                lengths, content = self._hashes[2 * position : 2 * position + 2]
                # What a deleted item would be told from an empty text by.
                lengths.update(_whole(pc.fill_null(pc.binary_length(chunk), -1)))
                content.update(_content(chunk.drop_null()))

    def hex(self, told: Mapping[str, Any]) -> str:
        """The hash, with what else the footer says."""
        whole = hashlib.sha256(orjson.dumps(told, option=orjson.OPT_SORT_KEYS))
        for each in self._hashes:
            whole.update(each.digest())
        return whole.hexdigest()


def _whole(array: pa.Array) -> memoryview:
    width = array.type.byte_width
    return memoryview(array.buffers()[1])[array.offset * width : (array.offset + len(array)) * width]


def _content(array: pa.Array) -> memoryview | bytes:
    _, offsets, content = array.buffers()
    if content is None or not len(array):
        return b""
    ends = memoryview(offsets).cast("i")
    return memoryview(content)[ends[array.offset] : ends[array.offset + len(array)]]


def _told(header: SegmentHeader, entries: int, digest: _Digest) -> dict[str, Any]:
    told = {"dynalayer": "segment", "codec": "parquet", "format": FORMAT, **asdict(header), "entries": entries}
    return {**told, "hash": digest.hex(told)}


# Reading


@contextmanager
def _corrupt(source: str) -> Iterator[None]:
    """What pyarrow raises on a file that is no whole segment, as an error that names it."""
    try:
        yield
    except _ROTTEN as error:
        raise SegmentCorruptError(
            f"{source} is corrupt or no Parquet file: {error}; restore it from a copy, or rebuild the partition from "
            "the source table"
        ) from error


class ParquetColumns:
    """A segment in a Parquet file; see `Columns`. Only the footer is read at first.

    Args:
        file: Reads it: seekable.
        source: Where it is, for errors.

    Raises:
        SegmentCorruptError: It is no whole segment, or of a newer format.
    """

    def __init__(self, file: Any, source: str) -> None:
        self._source = source
        self._file = pa.PythonFile(file, mode="r") if not isinstance(file, pa.NativeFile) else file
        with _corrupt(source):
            # Neighbouring columns in one request each row group.
            self._parquet = pq.ParquetFile(self._file, pre_buffer=True, page_checksum_verification=True)
            told = orjson.loads((self._parquet.metadata.metadata or {}).get(_KEY, b"null"))
            self.schema: pa.Schema = self._parquet.schema_arrow
        if not isinstance(told, dict) or told.get("dynalayer") != "segment":
            raise SegmentCorruptError(f"{source} is a Parquet file, but no dynalayer segment")
        if told.get("format") != FORMAT:
            raise SegmentCorruptError(
                f"{source} has segment format {told.get('format')!r}; this release reads format {FORMAT}: a newer "
                "dynalayer wrote it"
            )
        with _corrupt(source):
            self.hash: str = told.pop("hash")
            self.told = told
            self.entries: int = told["entries"]
            self.header = SegmentHeader(**{name: told[name] for name in SegmentHeader.__slots__})
            kinds = [self.schema.field(name).type for name in (ID, ITEM)]
            if kinds != [pa.string(), pa.string()]:
                raise ValueError(f"identifiers and items are text, not {kinds}")

    def batches(
        self,
        columns: Sequence[str] | None = None,
        filter: pc.Expression | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """See `Columns`: of row groups whose statistics exclude the filter nothing is read."""
        wanted = self.schema.names if columns is None else list(columns)
        for number in range(self._parquet.num_row_groups) if filter is None else self._matching(filter):
            with _corrupt(self._source):
                table = self._parquet.read_row_group(number, columns=wanted)
                # In the order asked for: a reader of files gives it in the file's.
                found = table.select(wanted).combine_chunks().to_batches()
            yield from found

    def _matching(self, filter: pc.Expression) -> list[int]:
        """The row groups whose statistics do not exclude the filter."""
        with _corrupt(self._source):
            fragment = ds.ParquetFileFormat().make_fragment(self._file)
            fragment.ensure_complete_metadata()
        try:
            return [group.id for group in fragment.subset(filter, schema=self.schema).row_groups]
        except pa.ArrowException:  # the filter cannot be asked of statistics: whoever asked looks at the rows
            return list(range(self._parquet.num_row_groups))


def read_segment(data: bytes, source: str) -> Segment:
    """A segment from its file's bytes, every item checked against the hash in the footer.

    Raises:
        SegmentCorruptError: Truncated, rotten, foreign, or of a newer format; names the source.
    """
    columns = ParquetColumns(pa.BufferReader(data), source)
    digest = _Digest()

    def checked() -> Iterator[pa.RecordBatch]:
        for batch in columns.batches([ID, ITEM]):
            digest.add(batch)
            yield batch

    with _corrupt(source):
        segment = segment_of(columns.header, checked())
    if digest.hex(columns.told) != columns.hash or segment.entries != columns.entries:
        raise SegmentCorruptError(
            f"{source}: the content does not match its hash: it is corrupt; restore it from a copy, or rebuild the "
            "partition from the source table"
        )
    return segment
