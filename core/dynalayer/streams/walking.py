"""Walking a stream: rounds in which each shard that may be read is asked for a page, side by side."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from dynalayer.counting import operation
from dynalayer.errors import ConfigurationError, LayerError, SourceError
from dynalayer.side_by_side import side_by_side
from dynalayer.streams.client import (
    ExpiredIteratorError,
    GoneError,
    StreamsClient,
    StreamsService,
    TrimmedError,
    made_client,
)
from dynalayer.streams.following import Followed
from dynalayer.streams.intake import OPERATION, Delivered, Intake
from dynalayer.streams.positions import Position, Positions, Start, begin_anew
from dynalayer.streams.records import Stream, StreamRecord, record_of
from dynalayer.streams.shards import Shard, readable, shards_of

__all__ = ["Walker", "opened"]

_PACE = 0.2  # seconds between two pages of a shard: it answers five times a second
_LOOK = 60.0  # seconds after which the stream is described again, without a shard having ended
_AT_END = 5  # empty answers in a row that tell the end: one alone may lie before further records
_RENEWALS = 5  # of an iterator, in a row


def opened(
    intake: Intake,
    client: StreamsClient | None,
    region: str | None,
    endpoint_url: str | None,
    stream: Stream | None,
    stop: threading.Event,
) -> Walker:
    """What follows a stream; asks which one is the table's where none is given.

    Raises:
        ConfigurationError: No client can be made, or the table has no stream.
        SourceError: The service cannot be asked.
    """
    service = StreamsService(made_client(region, endpoint_url) if client is None else client, stop.wait)
    if stream is None:
        streams = service.streams(intake.table)
        if not streams:
            raise ConfigurationError(
                f"table {intake.table!r} has no stream where it was looked for, or there is no such table: name the "
                "region, or give the table a stream with StreamViewType NEW_AND_OLD_IMAGES"
            )
        stream = streams[-1]
    return Walker(intake, service, stream, stop)


@dataclass(slots=True)
class _Reading:
    """A shard that is being read.

    Attributes:
        shard: Its name.
        position: How far it was read.
        iterator: Where to go on; None: it is to be asked for.
        empty: Empty answers in a row.
        renewed: Iterators in a row that gave nothing.
        caught: Whether all but what is fresh was taken of it: not of one that is held up at its first record.
    """

    shard: str
    position: Position
    iterator: str | None = None
    empty: int = 0
    renewed: int = 0
    caught: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """What one page of a shard brought."""

    records: int = 0
    delivered: Delivered | None = None
    ended: bool = False
    error: LayerError | None = None


class Walker:
    """Follows one stream into a layer.

    Args:
        intake: Takes its records.
        service: The streams service.
        stream: The stream.
        stop: Set to end it.
    """

    def __init__(self, intake: Intake, service: StreamsService, stream: Stream, stop: threading.Event) -> None:
        self._intake = intake
        self._service = service
        self._stream = stream
        self._stop = stop
        self._positions = Positions(intake.log, stream, intake.clock)
        self._shards: list[Shard] = []
        self._read: dict[str, Position] = {}  # of shards that were read to their end
        self._caught: set[str] = set()  # of these, the ones of which nothing old was left then, and so of what follows
        self._readings: dict[str, _Reading] = {}
        self._followed = Followed(stream.arn, first=False)

    def follow(
        self, start: Start, *, anew: bool, once: bool, poll: float, progress: Callable[[Followed], object]
    ) -> Followed:
        """See `dynalayer.streams.follow`."""
        with operation(OPERATION):
            try:
                return self._follow(start, anew=anew, once=once, poll=poll, progress=progress)
            except LayerError as error:
                error.within(operation=OPERATION)
                raise

    def _follow(
        self, start: Start, *, anew: bool, once: bool, poll: float, progress: Callable[[Followed], object]
    ) -> Followed:
        live = self._describe()
        if anew:
            begin_anew(self._intake.log)
        self._begin(start)
        progress(self._followed)
        looked, said = time.monotonic(), -math.inf
        while not self._stop.is_set():
            steps = self._round()
            if any(step.records for step in steps):
                progress(self._followed)
            if time.monotonic() - said > _LOOK and all(reading.caught for reading in self._readings.values()):
                self._positions.alive()
                said = time.monotonic()
            at_end = all(reading.empty >= _AT_END for reading in self._readings.values())
            if any(step.ended for step in steps) or time.monotonic() - looked > _LOOK or not self._readings:
                live, looked = self._look(), time.monotonic()
                if self._readings:
                    continue
                if once:
                    break
                if not live:
                    raise SourceError(
                        f"the stream {self._stream.arn} is switched off, and was read to its end: nothing more will "
                        "come. Give the table a stream, follow it anew (--anew), and reset the layer once it follows"
                    )
            elif once and at_end:
                break
            idle = not any(step.records for step in steps)
            self._stop.wait(max(poll, _PACE) if idle and not once else _PACE)
        return self._followed

    # What there is to read

    def _begin(self, start: Start) -> None:
        first = self._positions.open(start)
        saved = self._positions.all()
        if first and start == "latest":
            for shard in self._shards:
                if not shard.open:  # what it has is from before
                    saved[shard.name] = self._positions.save(shard.name, Position(), None, closed=True)
        self._read = {name: position for name, position in saved.items() if position.closed}
        self._readings = {name: _Reading(name, each) for name, each in saved.items() if not each.closed}
        self._adopt()
        if first and start == "latest":
            for reading in self._readings.values():
                # Where one ended or vanished right now, it is read from the moment on that was just noted.
                with suppress(GoneError, TrimmedError):
                    reading.iterator = self._service.iterator(self._stream, reading.shard, latest=True)
        self._followed = replace(self._followed, first=first, shards=len(self._readings))

    def _describe(self) -> bool:
        """Learn the shards; tells whether further ones may come.

        Raises:
            ConfigurationError: Its records lack images that are needed, or it tells items apart otherwise.
            SourceError: It is not there.
        """
        shards: list[Shard] = []
        live = False
        try:
            for page in self._service.described(self._stream):
                keys = frozenset(each["AttributeName"] for each in page.get("KeySchema", ()))
                self._intake.places.check_keys(keys)
                self._intake.places.check_view(str(page.get("StreamViewType")), keys)
                live = page.get("StreamStatus") in ("ENABLED", "ENABLING")
                shards += shards_of(page)
        except GoneError as error:
            raise SourceError(
                f"the stream {self._stream.arn} is not there: it was switched off a day ago or more, or its table is "
                "another's or gone"
            ) from error
        self._shards = shards
        return live

    def _look(self) -> bool:
        """Learn the shards anew."""
        live = self._describe()
        told = {shard.name for shard in self._shards}
        self._read = {name: each for name, each in self._read.items() if name in told}
        self._caught &= told
        self._adopt()
        return live

    def _adopt(self) -> None:
        """Begin to read what may be read now."""
        positions = self._read | {name: reading.position for name, reading in self._readings.items()}
        for shard in readable(self._shards, positions):
            if shard.name not in self._readings:
                position = self._positions.of(shard.name)
                if position.closed:  # by another follower
                    self._read[shard.name] = position
                else:
                    self._readings[shard.name] = _Reading(shard.name, position, caught=shard.parent in self._caught)

    # Reading

    def _round(self) -> list[_Step]:
        """A page of each shard.

        Raises:
            LayerError: One of them failed; what was taken of the others is saved.
        """
        readings = list(self._readings.values())
        steps = side_by_side(self._step, readings)
        done = self._followed
        for reading, step in zip(readings, steps, strict=True):
            if step.ended:
                self._read[reading.shard] = reading.position
                self._caught |= {reading.shard} if reading.caught else set()
                del self._readings[reading.shard]
            told = step.delivered or Delivered(0, 0, 0, 0, None)
            done = replace(
                done,
                records=done.records + step.records,
                events=done.events + told.events,
                known=done.known + told.known,
                set_aside=done.set_aside + told.set_aside,
            )
        self._followed = replace(done, shards=len(self._readings))
        for step in steps:
            if step.error is not None:
                raise step.error
        return steps

    def _step(self, reading: _Reading) -> _Step:
        """Read a page of a shard, and take it."""
        try:
            return self._page(reading)
        except ExpiredIteratorError:
            return self._renewed(reading)
        except TrimmedError as error:
            if reading.position.after is None:  # the beginning of the shard has moved on meanwhile
                return self._renewed(reading)
            return _Step(error=self._gap(reading, error))
        except GoneError as error:
            return _Step(error=self._gap(reading, error))
        except LayerError as error:
            return _Step(error=error)

    def _renewed(self, reading: _Reading) -> _Step:
        reading.iterator = None
        reading.renewed += 1
        if reading.renewed <= _RENEWALS:
            return _Step()
        return _Step(
            error=SourceError(
                f"each of {_RENEWALS} iterators of shard {reading.shard} had run out before it was used; look at this "
                "machine's clock and load",
                retryable=True,
            )
        )

    def _gap(self, reading: _Reading, cause: Exception) -> SourceError:
        after = reading.position.after
        whence = "its beginning" if after is None else f"record {after}"
        error = SourceError(
            f"the stream of {self._stream.table!r} has forgotten what came after {whence} of shard {reading.shard}, "
            "before it was taken: changes of its items may be missing in the layer. Begin anew (--anew), and once it "
            "follows, reset the layer from the table: that brings what is missing"
        )
        error.__cause__ = cause
        return error

    def _page(self, reading: _Reading) -> _Step:
        if reading.iterator is None:
            reading.iterator = self._service.iterator(self._stream, reading.shard, after=reading.position.after)
        found: list[Any] = []
        following: str | None = None
        if reading.iterator is not None:
            found, following = self._service.page(self._stream, reading.iterator)
        reading.renewed = 0
        reading.empty = 0 if found else reading.empty + 1
        records = [
            record_of(each, self._stream, f"record {position} of a page of shard {reading.shard}")
            for position, each in enumerate(found)
        ]
        delivered, error = None, None
        durable = 0
        if records:
            early = self._early(records)
            delivered = self._intake.take(records[early:])
            durable, error = early + delivered.durable, delivered.error
        if error is None and (records or reading.empty >= _AT_END):
            reading.caught = not records or self._positions.fresh(records[-1].created)
        self._save(reading, records[:durable], closed=following is None and error is None)
        if reading.position.closed:
            return _Step(len(found), delivered, ended=True, error=error)
        # Where another follower was faster its position counts, and the iterator is asked for there.
        reading.iterator = following if records[-1:] == [] or reading.position.after == records[-1].number else None
        return _Step(len(found), delivered, error=error)

    def _early(self, records: list[StreamRecord]) -> int:
        """How many of them, from the first, are from before the layer followed the stream."""
        return next((n for n, each in enumerate(records) if not self._positions.precedes(each.created)), len(records))

    def _save(self, reading: _Reading, done: list[StreamRecord], *, closed: bool) -> None:
        if not done and not closed:
            return
        before = reading.position
        after = done[-1].number if done else before.after
        now = self._positions.save(reading.shard, before, after, closed=closed)
        if _behind(now.after, after) and not now.closed:  # another follower is; the next page moves it on from there
            now = Position(after, closed=False, revision=now.revision)
        reading.position = now


def _behind(one: str | None, other: str | None) -> bool:
    return int(one or -1) < int(other or -1)
