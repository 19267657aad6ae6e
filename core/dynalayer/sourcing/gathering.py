"""From a source into a spool: each item checked, placed in its partition, kept once; or refused, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from dynalayer.dead_letters import DeadLetter
from dynalayer.errors import ConfigurationError, InvalidEventError, InvalidInputError
from dynalayer.eventlog.base import EventLog
from dynalayer.events import EventReader, Placed
from dynalayer.side_by_side import side_by_side
from dynalayer.sourcing.sources import Page, Source
from dynalayer.sourcing.spools import Spool
from dynalayer.values import item_from_json

__all__ = ["gather", "tails_of"]


_AT_ONCE = 64  # partitions whose tails are noted between two looks at the lease


def tails_of(log: EventLog, reader: EventReader, partition: str | None) -> Iterator[tuple[str, int]]:
    """The newest version of each partition that is known, before a source is read for them.

    One that only the source tells counts as noted at 0.

    Args:
        log: The layer's event log.
        reader: Tells where an item belongs.
        partition: Only this one; None: all.

    Raises:
        ConfigurationError: The layer has partitions that only events tell.
    """
    names = {*log.partitions(), *log.pending()} if partition is None else {partition}
    if partition is None and not reader.tells_partitions and names - {""}:
        raise ConfigurationError(
            "the layer was given no get_item_partition, and events told of partitions, such as "
            f"{min(names - {''})!r:.100}: nothing tells which items of a source belong there. Take one partition "
            "after the other, each with its own items, or give the layer get_item_partition"
        )
    return _noted(log, sorted(names))


def _noted(log: EventLog, names: Sequence[str]) -> Iterator[tuple[str, int]]:
    width = _AT_ONCE if log.group_limit else 1  # side by side where each look is a round trip
    for start in range(0, len(names), width):
        part = names[start : start + width]
        yield from zip(part, side_by_side(lambda name: log.partition_state(name).version, part), strict=True)


def gather(
    source: Source,
    spool: Spool,
    reader: EventReader,
    partition: str | None,
    *,
    set_aside: bool,
    told: Callable[[int], None],
) -> None:
    """Read what is still to be read of a source.

    Args:
        source: The source.
        spool: Where its items are kept; it says how far they were read.
        reader: Tells where an item belongs.
        partition: Only this one's items are kept; None: all.
        set_aside: Whether what cannot be taken is kept as dead letters; else it is an error.
        told: Called after each page with the number of items read in this call.

    Raises:
        InvalidEventError: An item cannot be taken, and was not to be set aside; names it, and how many were read.
        InvalidInputError: Two different items are one by partition and identifier; names both.
        SourceError: The source failed.
        SpoolError: The spool did.
    """
    work = _Gathering(source, spool, reader, partition, set_aside=set_aside)
    segments, of = spool.segments()
    with closing(_closable(source.pages(partition, segments, of))) as pages:
        for page in pages:
            work.take(page)
            told(work.read)
    spool.end_reading()


def _closable(pages: Any) -> Any:
    """What can be closed: an iterator of the caller's own need not be."""
    return pages if hasattr(pages, "close") else (page for page in pages)


@dataclass(slots=True)
class _Gathering:
    """What was read so far.

    Attributes:
        read: Items.
    """

    _source: Source
    _spool: Spool
    _reader: EventReader
    _partition: str | None
    set_aside: bool
    read: int = 0

    def take(self, page: Page) -> None:
        """Keep a page."""
        placed: list[Placed] = []
        letters: list[bytes] = []
        for item in page.items:
            try:
                place = self._reader.place(item, self._partition or "")
            except InvalidInputError as error:
                letters.append(self._refused(item, error))
            else:
                if self._partition in (None, place.partition):
                    placed.append(place)
            self.read += 1
        self._keep(page, placed, letters)

    def _refused(self, item: object, error: InvalidInputError) -> bytes:
        if self.set_aside:
            return DeadLetter(self._source.location, error.message, item).line()
        raise InvalidEventError(
            f"item {self._source.named(item)} of {self._source.location} cannot be taken: {error.message}; "
            f"{self.read:,} items were read before it, and nothing was changed. Mend it in the source, or have such "
            "items set aside in a file: dead_letters, or --dead-letters",
            index=self.read,
        ) from error

    def _keep(self, page: Page, placed: Sequence[Placed], letters: Sequence[bytes]) -> None:
        clash = self._spool.add(page.segment, page.position, ended=page.ended, placed=placed, letters=letters)
        if clash is not None:
            raise InvalidInputError(
                f"two different items of {self._source.location} have the identifier {clash.placed.id!r:.100} in "
                f"partition {clash.placed.partition!r:.100}: {self._source.named(clash.item)} and "
                f"{self._source.named(item_from_json(clash.placed.encoded))}; nothing was changed. What identifies an "
                "item in the layer must tell them apart"
            )
