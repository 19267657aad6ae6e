"""Taking events in: `import`."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, Any

import click

from dynalayer.cli.going_on import Lines, options, outcomes_told
from dynalayer.cli.options import Chosen, layer_options, refuse_memory, reported
from dynalayer.errors import AppendError, ClosedError, InvalidEventError, InvalidInputError, LayerError, Outcome
from dynalayer.events import EventReader
from dynalayer.layer import Layer
from dynalayer.values import UNDECODABLE, item_from_json
from dynalayer.wording import counted

__all__ = ["Importer", "import_events", "lines_of"]

_GZIP_MAGIC = b"\x1f\x8b"
_LONGEST_LINE = 128 * 1024 * 1024  # bytes; no log takes an event of as many, and gzip may hold a line without an end


def _lines(_ctx: click.Context, _param: click.Parameter, value: str) -> Lines:
    try:
        return Lines.parse(value) if value else Lines()
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("import")
@click.argument("file", type=click.File("rb"))
@layer_options
@click.option(
    "--id-attribute",
    metavar="NAME",
    help="Attribute that identifies an item. [default: as configured, or the event's id]",
)
@click.option(
    "--partition-attribute",
    metavar="NAME",
    help="Attribute that is an item's partition. [default: as configured, or the event's]",
)
@click.option("--ignore", multiple=True, metavar="KEY", help="Drop this key of every event. May be repeated.")
@click.option("--batch", default=500, show_default=True, type=click.IntRange(1), help="Events in one set().")
@click.option("--from-line", default=1, show_default=True, type=click.IntRange(1), help="Skip the lines before.")
@click.option("--skip", default="", callback=_lines, metavar="LINES", help="Skip these lines too, as in 12,15-20.")
@click.option("--sync", "and_sync", is_flag=True, help="Fold what was taken into snapshots at the end.")
def import_events(
    file: IO[bytes],
    chosen: Chosen,
    id_attribute: str | None,
    partition_attribute: str | None,
    ignore: tuple[str, ...],
    batch: int,
    from_line: int,
    skip: Lines,
    *,
    and_sync: bool,
) -> None:
    """Append the events of a JSON Lines FILE, gzip or plain; - is standard input.

    A line is an event: {"type": "PUT", "item": {...}}, with "partition" and "id" where no attribute is named for
    them. Values are written as get and history write them: {"$decimal": "1.50"}. A line that cannot be taken ends the
    import; what stands before it is taken, and the error says how many lines that is. Where the log fails, the error
    says which lines are written and with which options to go on, so that none is lost or doubled.
    """
    with reported():
        configuration = chosen.configuration(
            get_item_unique_identifier=id_attribute, get_item_partition=partition_attribute
        )
        refuse_memory(configuration)
        with configuration.told():
            settings = configuration.options()
            layer = Layer(**settings)
    with reported(), layer:
        reader = EventReader(
            layer.table_name, settings.get("get_item_unique_identifier"), settings.get("get_item_partition")
        )
        importer = Importer(layer, reader, file.name, frozenset(ignore), batch, skip)
        importer.take(file, from_line)
        click.echo(f"{counted(importer.taken, 'event')} taken, in {counted(len(importer.partitions), 'partition')}")
        if and_sync:
            click.echo(f"{counted(layer.sync().count, 'event')} folded")


@dataclass(slots=True)
class Importer:
    """Takes a file's events into a layer, in batches.

    Attributes:
        layer: The layer.
        reader: Tells events' partitions as the layer does.
        name: The file's name, for errors.
        ignore: Keys to drop.
        size: Events in a batch.
        skip: Lines to leave out.
        taken: Events that are durable.
        partitions: The partitions that they went to.
    """

    layer: Layer
    reader: EventReader
    name: str
    ignore: frozenset[str]
    size: int
    skip: Lines = field(default_factory=Lines)
    taken: int = 0
    partitions: set[str] = field(default_factory=set)
    _batch: dict[int, Any] = field(default_factory=dict)
    _flushing: dict[int, Any] = field(default_factory=dict)
    _done: int = 0

    def take(self, file: IO[bytes], from_line: int = 1) -> None:
        """Take the lines from one on.

        Raises:
            InvalidInputError: A line cannot be taken; names file and line, and how many lines before it were.
            LayerError: The log failed; a note says what became of the lines, and how to go on.
        """
        try:
            self._take(file, from_line)
        except KeyboardInterrupt:
            click.echo(self._interrupted(), err=True)
            raise

    def _interrupted(self) -> str:
        """What is certain after an interruption."""
        said = f"{self.name}: interrupted; the lines through {self._done:,} were taken"
        if self._flushing:
            with suppress(InvalidInputError):  # of a batch with a bad event nothing was written
                return f"{said}, and {self._told({}, 'unknown')}"
        return f"{said}; go on with {options(self._done + 1, self.skip)}"

    def _told(self, outcomes: Mapping[str, Outcome], otherwise: Outcome) -> str:
        """What became of the lines that were being appended, by their partitions."""
        partitions = {number: self.reader.read(event, 0)[0] for number, event in self._flushing.items()}
        return outcomes_told(
            {number: (each, outcomes.get(each, otherwise)) for number, each in partitions.items()}, self.skip
        )

    def _take(self, file: IO[bytes], from_line: int) -> None:
        number = 0
        self._done = from_line - 1
        try:
            for number, line in enumerate(lines_of(file), 1):
                if number < from_line or number in self.skip or not line.strip():
                    continue
                if len(line) > _LONGEST_LINE:
                    self._flush()
                    raise self._refused(number, f"more than {_LONGEST_LINE:,} bytes, which no log takes as one event")
                try:
                    event = self._parse(line)
                except UNDECODABLE as error:
                    self._flush()
                    raise self._refused(number, f"no JSON of an event: {error}") from error
                self._batch[number] = event
                if len(self._batch) >= self.size:
                    self._flush()
        except (EOFError, OSError, zlib.error) as error:
            self._flush()
            raise self._refused(number + 1, f"the file cannot be read on: {error}") from error
        self._flush()

    def _parse(self, line: bytes) -> Any:
        # The standard library's parser, since it reads whole numbers of any length exactly.
        event = json.loads(line)
        if isinstance(event, dict):
            for key in self.ignore:
                event.pop(key, None)
            if "item" in event:
                event["item"] = item_from_json(event["item"])
        return event

    def _flush(self) -> None:
        """Make the batch durable; of one with a bad event, what stands before it."""
        batch, self._batch = self._batch, {}
        try:
            self._set(batch)
        except InvalidEventError as error:
            numbers, index = list(batch), error.index or 0
            self._set({number: batch[number] for number in numbers[:index]})
            # The cause says the same without the position in the batch, which means nothing to the file's owner.
            reason = error.__cause__.message if isinstance(error.__cause__, LayerError) else error.message
            raise self._refused(numbers[index], reason) from error

    def _set(self, batch: dict[int, Any]) -> None:
        if not batch:
            return
        self._flushing = batch
        try:
            appended = self.layer.set(list(batch.values()))
        except InvalidEventError:
            self._flushing = {}
            raise
        except LayerError as error:
            outcomes = error.outcomes if isinstance(error, AppendError) else {}
            certain = isinstance(error, ClosedError | InvalidInputError)
            error.add_note(f"{self.name}: {self._told(outcomes, 'not written' if certain else 'unknown')}")
            raise
        self.taken += len(appended)
        self.partitions.update(event.partition for event in appended)
        self._done, self._flushing = max(batch), {}

    def _refused(self, number: int, reason: str) -> InvalidInputError:
        return InvalidInputError(
            f"{self.name}, line {number}: {reason}. Lines taken before it: {number - 1:,}; "
            f"mend it and go on with {options(number, self.skip)}",
            operation="import",
        )


def lines_of(file: IO[bytes]) -> Iterator[bytes]:
    """A file's lines, unpacked where it is gzip; of one that is too long the beginning, itself too long."""
    peek = getattr(file, "peek", None)
    if peek is not None and peek(2)[:2] == _GZIP_MAGIC:
        with gzip.open(file) as unpacked:
            yield from _bounded(unpacked.readline)
    else:
        yield from _bounded(file.readline)


def _bounded(readline: Callable[[int], bytes]) -> Iterator[bytes]:
    while line := readline(_LONGEST_LINE + 1):
        yield line
