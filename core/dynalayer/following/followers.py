"""A layer's followers: consumers made, followed, moved and forgotten."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable
from functools import partial

from dynalayer.clock import Clock
from dynalayer.errors import InvalidInputError, LayerError
from dynalayer.eventlog.base import EventLog
from dynalayer.events import check_partition
from dynalayer.following.consumers import Consumer, told_consumers
from dynalayer.following.feed import Feed
from dynalayer.following.handing_out import HandingOut
from dynalayer.following.ownership import Ownership, Registration, check_consumer
from dynalayer.following.pages import Pages
from dynalayer.following.positions import BEGINNING, Position, Positions, clear_positions
from dynalayer.following.starting import Start, check_known, check_since, position_at_version, position_since
from dynalayer.logs import log_failure
from dynalayer.observing import Observers
from dynalayer.quoting import quoted
from dynalayer.recalling import Recaller

__all__ = ["Followers"]

_LONGEST_POLL = 3600.0


class Followers:
    """Makes feeds, and keeps consumers.

    Args:
        log: The layer's event log.
        recaller: Finds what the log has no more.
        observers: Whom to tell.
        clock: Tells when a consumer was made.
    """

    def __init__(self, log: EventLog, recaller: Recaller, observers: Observers, clock: Clock) -> None:
        self._log = log
        self._pages = Pages(log, recaller)
        self._observers = observers
        self._clock = clock
        self._feeds: weakref.WeakSet[Feed] = weakref.WeakSet()

    def follow(
        self,
        consumer: object,
        since: object,
        *,
        wait: object,
        poll: object,
        partitions: object,
        on_reset: object,
    ) -> Feed:
        """A feed for a consumer, which is made where there is none. See `Layer.follow`."""
        name = check_consumer(consumer)
        if not isinstance(wait, bool):
            raise InvalidInputError(f"wait={quoted(wait)} is neither True nor False")
        if isinstance(poll, bool) or not isinstance(poll, int | float) or not _is_poll(poll):
            raise InvalidInputError(f"poll={quoted(poll)} is no number of seconds above 0, up to {_LONGEST_POLL:.0f}")
        if on_reset is not None and not callable(on_reset):
            raise InvalidInputError(f"on_reset={quoted(on_reset)} is no function of a partition and a version")
        if isinstance(partitions, str | bytes) or not (partitions is None or isinstance(partitions, Iterable)):
            raise InvalidInputError(f"partitions={quoted(partitions)} is no list of partitions")
        only = None if partitions is None else frozenset(map(check_partition, partitions))
        events = HandingOut(
            self._pages,
            self._taken(name, since),
            consumer=name,
            partitions=only,
            wait=wait,
            poll=float(poll),
            on_reset=on_reset,
            observers=self._observers,
        )
        feed = Feed(name, events)
        self._feeds.add(feed)
        return feed

    def _taken(self, name: str, since: object) -> Positions:
        """Take a consumer, make it where there is none, and see that it has its beginning in every partition."""
        start = check_since("beginning" if since is None else since)
        ownership = Ownership(self._log, name)
        new = None
        if ownership.found() is None:
            check_known(self._log, start)
            new = Registration(start.kind, start.text, self._clock())
        ownership.take(new)
        positions = Positions(self._log, ownership)
        positions.load()
        if not ownership.registration.ready:
            registration = ownership.registration
            self._begin(positions, Start(registration.kind, registration.since))
            ownership.be_ready()
        return positions

    def _begin(self, positions: Positions, start: Start) -> None:
        """Note for every partition where the consumer begins there: one that comes later is followed from its first."""
        for partition in sorted(self._log.survey()):
            if positions.known(partition):
                continue
            position = position_since(self._pages, partition, start, self._clock)
            if position != BEGINNING:
                positions.reach(partition, position)
                positions.save()

    def consumers(self) -> tuple[Consumer, ...]:
        """See `Layer.consumers`."""
        return tuple(told_consumers(self._log))

    def move(self, consumer: str, to: object, partition: str | None) -> None:
        """See `Layer.move_consumer`."""
        name = check_consumer(consumer)
        if isinstance(to, bool):
            raise InvalidInputError(f"to={quoted(to)} is no place to move a consumer to")
        if isinstance(to, int) and partition is None:
            raise InvalidInputError(f"to={quoted(to)} is a version, which is one partition's: partition=… names it")
        find: Callable[[str], Position]
        if isinstance(to, int):
            find = partial(position_at_version, self._pages, version=to)
        else:
            start = check_since(to, name="to")
            check_known(self._log, start)
            find = partial(position_since, self._pages, start=start, clock=self._clock)
        partitions = sorted(self._log.survey()) if partition is None else [check_partition(partition)]
        if partition is not None:  # what is refused is refused before the consumer is taken from who follows
            if not self._log.partition_state(partition).version:
                raise InvalidInputError(f"there is no event of partition {quoted(partition)}; is its name right?")
            find(partition)
        ownership = Ownership(self._log, name)
        ownership.take()
        positions = Positions(self._log, ownership)
        positions.load_revisions()
        for each in partitions:
            positions.reach(each, find(each))
            positions.save()
        # Who began to follow meanwhile may have read positions that were moved after that.
        ownership.check()

    def forget(self, consumer: str) -> None:
        """See `Layer.forget_consumer`."""
        name = check_consumer(consumer)
        ownership = Ownership(self._log, name)
        ownership.seize()  # who follows is told, and writes no position any more
        clear_positions(self._log, name)
        ownership.remove()

    def close(self) -> None:
        """Close the feeds that are still open; what was handled is saved, or else is given again."""
        for feed in tuple(self._feeds):
            try:
                feed.close()
            except LayerError as error:
                text = "how far a consumer has come could not be saved; the rest is given again: %s"
                log_failure(text, error, error=error, table=self._log.table, consumer=feed.consumer)


def _is_poll(poll: float) -> bool:
    return math.isfinite(poll) and 0 < poll <= _LONGEST_POLL
