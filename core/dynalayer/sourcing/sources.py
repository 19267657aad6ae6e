"""Where all items of a layer, or of one of its partitions, can be read again: a boto3 `Table`, or an iterable of items.

A source is read in segments, each in pages. A table's segments are read side by side, and a page tells where to go on;
an iterable has one segment, that begins anew.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from dynalayer.counting import UsageCounter
from dynalayer.errors import ConfigurationError, InvalidInputError
from dynalayer.events import EventReader
from dynalayer.optional import need
from dynalayer.quoting import quoted
from dynalayer.sourcing.paging import side_by_side
from dynalayer.values import Item

if TYPE_CHECKING:  # it needs boto3, which is an extra
    from dynalayer.sourcing.tables import SourceTable, TablePage

__all__ = ["Page", "Source", "SourceOption", "is_table", "need_source_tables", "open_source"]

SourceOption = Iterable[object] | Callable[[], Iterable[object]] | Any
"""A boto3 `Table`; an iterable of items; or a function without arguments that returns one."""

Position = Mapping[str, Any]

_PAGE = 500  # items of an iterable
_SEGMENTS = range(2, 9)  # threads; what tables take at once, and the decoding of Python, is not more with more of them
_SEGMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """Some items of a segment.

    Attributes:
        segment: Which one.
        items: The items.
        position: Where the segment goes on; None where it does not.
        ended: Whether the segment has ended.
    """

    segment: int
    items: Sequence[object]
    position: Position | None
    ended: bool


class Source(Protocol):
    """Where items are read.

    Attributes:
        location: What people call it.
        identity: What tells it from others.
        resumable: Whether a segment can be gone on with.
    """

    location: str
    identity: str
    resumable: bool

    def prepare(self, partition: str | None) -> None:
        """Refuse a source that does not fit, before any of it is read.

        Args:
            partition: The partition that it is read for; None for all.

        Raises:
            ConfigurationError: It does not fit.
            SourceError: It is not there.
        """

    def segments(self, partition: str | None) -> int:
        """How many segments it is best read in."""

    def expected(self, partition: str | None) -> int | None:
        """About how many items there are, where that is known."""

    def pages(self, partition: str | None, segments: Mapping[int, Position | None], of: int) -> Iterator[Page]:
        """The items, read strongly. The caller closes it, which ends all reading.

        Args:
            partition: Those of this partition at least; None: all.
            segments: The segments to read, with the positions to go on at.
            of: How many segments there are.
        """

    def named(self, item: object) -> str:
        """An item as an error names it."""

    def again(self, items: Sequence[Item]) -> list[Item | None] | None:
        """Items as they are now, read strongly; None where the source cannot look for single ones.

        Args:
            items: As they were, here or there; each has the key by which to look.
        """


def need_source_tables() -> ModuleType:
    """The module of source tables, imported only when one is given: boto3 is an extra.

    Raises:
        ConfigurationError: boto3 is not installed.
    """
    return need(
        "dynalayer.sourcing.tables",
        "a source table in DynamoDB",
        packages=("boto3", "botocore"),
        install="dynalayer[dynamodb]",
    )


def open_source(given: SourceOption, reader: EventReader, table: str, counter: UsageCounter) -> Source:
    """The source that a user gives.

    Args:
        given: A boto3 `Table`, an iterable, or a function that returns one.
        reader: Knows what tells items apart.
        table: The layer's table.
        counter: Where requests are counted.

    Raises:
        InvalidInputError: It is none.
        ConfigurationError: The layer has nothing that tells an item's identifier.
    """
    if not reader.tells_ids:
        raise ConfigurationError(
            "the layer was given no get_item_unique_identifier: of an item that comes without an event nothing tells "
            "its identifier; say which attribute does, in dynalayer.toml or where the layer is made"
        )
    if is_table(given):
        return _TableSource(need_source_tables().SourceTable(given, counter), reader, table)
    if callable(given) and not isinstance(given, Iterable):
        return _Items(given, _called_name(given))
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InvalidInputError(
            f"a source is a boto3 Table, an iterable of items, or a function that returns one, not {quoted(given)}"
        )
    location = f"an iterable ({type(given).__name__})"
    return _Items(partial(_once, given, location) if isinstance(given, Iterator) else lambda: given, location)


def _once(items: Iterator[object], location: str) -> Iterator[object]:
    """What an iterator gives, which is something: one that was gone through already is no source without items."""
    found = False
    for item in items:
        found = True
        yield item
    if not found:
        raise InvalidInputError(
            f"the source, {location}, gave no item; perhaps it was gone through already. If there really are none, "
            "give an empty list"
        )


def is_table(given: object) -> bool:
    """Whether it is boto3's `Table`; boto3 is not imported for it."""
    meta = getattr(given, "meta", None)
    model = getattr(getattr(meta, "resource_model", None), "name", None)
    return model == "Table" and getattr(meta, "service_name", None) == "dynamodb"


def _called_name(given: object) -> str:
    """A function's name; of another object that can be called what it says of itself, or its type."""
    name = getattr(given, "__qualname__", None)
    if isinstance(name, str):
        return f"{name}()"
    return f"{type(given).__name__}()" if type(given).__str__ is object.__str__ else str(given)


class _Items:
    """Items that a function returns."""

    resumable = False

    def __init__(self, function: Callable[[], object], location: str) -> None:
        self._function = function
        self.location = location
        self.identity = location

    def prepare(self, partition: str | None) -> None:
        """Nothing can be known beforehand."""

    def segments(self, partition: str | None) -> int:  # noqa: ARG002 -- as a source is asked
        """One."""
        return 1

    def expected(self, partition: str | None) -> int | None:  # noqa: ARG002 -- as a source is asked
        """Not known."""
        return None

    def pages(self, partition: str | None, segments: Mapping[int, Position | None], of: int) -> Iterator[Page]:  # noqa: ARG002 -- as a source is asked
        """All items, from the first."""
        items = self._function()
        if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
            raise InvalidInputError(f"the source {self.location} gave no iterable of items but {quoted(items)}")
        each = iter(items)
        while part := list(islice(each, _PAGE)):
            yield Page(0, part, None, ended=False)
        yield Page(0, (), None, ended=True)

    def named(self, item: object) -> str:
        """All of it, cut short."""
        return quoted(item, 200)

    def again(self, items: Sequence[Item]) -> list[Item | None] | None:  # noqa: ARG002 -- as a source is asked
        """It has no keys."""
        return None


class _TableSource:
    """A table in DynamoDB."""

    resumable = True

    def __init__(self, source: SourceTable, reader: EventReader, table: str) -> None:
        self._source = source
        self._reader = reader
        self._table = table
        self.location = source.location
        self.identity = source.url

    def prepare(self, partition: str | None) -> None:
        """See `Source`."""
        self._source.check(self._table, self._reader.identifying)
        if partition and not self._reader.tells_partitions:
            raise ConfigurationError(
                f"the layer was given no get_item_partition: nothing tells which items of {self.location} are of "
                f"partition {quoted(partition)}; give an iterable of them"
            )

    def segments(self, partition: str | None) -> int:
        """See `Source`."""
        if self._queried(partition):
            return 1
        size: int = self._source.described.get("TableSizeBytes", 0)  # of some hours ago, and 0 for a new table
        return min(max(size // _SEGMENT_BYTES, _SEGMENTS[0]), _SEGMENTS[-1])

    def expected(self, partition: str | None) -> int | None:
        """See `Source`."""
        count: int = self._source.described.get("ItemCount", 0)
        return None if self._queried(partition) or not count else count

    def _queried(self, partition: str | None) -> bool:
        """Whether a query gives the partition, and no other."""
        keys = self._source.keys
        return partition is not None and self._reader.partition_attribute == keys.hash and keys.types[keys.hash] == "S"

    def pages(self, partition: str | None, segments: Mapping[int, Position | None], of: int) -> Iterator[Page]:
        """See `Source`."""
        if self._queried(partition):
            if not partition or not segments:  # no key is empty; of a query that broke off after its end none is left
                return iter([Page(0, (), None, ended=True)])
            reads = [partial(_paged, 0, self._source.query(partition, segments[0]))]
        else:
            reads = [
                partial(_paged, segment, self._source.scan(segment, of, position))
                for segment, position in segments.items()
            ]
        return side_by_side(reads)

    def named(self, item: object) -> str:
        """Its key."""
        key = self._source.keys.of(item) if isinstance(item, Mapping) else None
        return quoted(item if key is None else key, 200)

    def again(self, items: Sequence[Item]) -> list[Item | None] | None:
        """See `Source`."""
        keys = [self._source.keys.of(item) for item in items]
        found = iter(self._source.get_many([key for key in keys if key is not None]))
        return [None if key is None else next(found) for key in keys]


def _paged(segment: int, pages: Iterator[TablePage]) -> Generator[Page]:
    for page in pages:
        yield Page(segment, page.items, page.position, ended=page.position is None)
