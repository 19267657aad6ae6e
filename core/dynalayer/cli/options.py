"""What the commands share: options that name a layer, errors as one line, JSON as it is stored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import click
import orjson

from dynalayer.clock import to_iso, to_microseconds
from dynalayer.config import DEFAULT_TABLE, Configuration, Sources
from dynalayer.errors import LayerError
from dynalayer.events import Event
from dynalayer.layer import Layer
from dynalayer.opening import DEFAULT_EVENTS, DEFAULT_STORAGE, open_event_log
from dynalayer.values import Item, item_to_json

__all__ = [
    "Chosen",
    "event_line",
    "item_line",
    "layer_options",
    "opened",
    "print_json",
    "print_table",
    "refuse_memory",
    "reported",
    "shown",
]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the options say of the layer that a command works on; what they do not say, files and the environment do.

    Attributes:
        layer: The layer's name in the configuration.
        config: The configuration's file.
        given: Settings that were given as options.
    """

    layer: str | None
    config: str | None
    given: Mapping[str, object]

    def configuration(self, **options: object) -> Configuration:
        """What is in force.

        Args:
            options: Further settings that were given as options; None is not given.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return Sources.read(self.config).configuration(self.layer, {**self.given, **given})


def layer_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that name a layer; the command gets them as one argument, `chosen`."""

    @functools.wraps(command)
    def choosing(
        *arguments: Any,
        layer: str | None,
        config: str | None,
        table: str | None,
        events: str | None,
        storage: tuple[str, ...],
        **others: Any,
    ) -> Any:
        stack = None if not storage else storage[0] if len(storage) == 1 else list(storage)
        given = {"table": table, "events": events, "storage": stack}
        chosen = Chosen(layer, config, {name: value for name, value in given.items() if value is not None})
        return command(*arguments, chosen=chosen, **others)

    options = (
        click.option("--layer", metavar="NAME", help="The layer of the configuration. [default: the only one]"),
        click.option(
            "--config", metavar="FILE", help="The configuration. [default: dynalayer.toml and pyproject.toml, if there]"
        ),
        click.option("--table", help=f"The layer's table. [default: as configured, or {DEFAULT_TABLE}]"),
        click.option("--events", metavar="URL", help=f"The event log. [default: as configured, or {DEFAULT_EVENTS}]"),
        click.option(
            "--storage",
            metavar="URL",
            multiple=True,
            help="Where snapshots are kept; repeated, wrappers around that, the outermost first. "
            f"[default: as configured, or {DEFAULT_STORAGE}]",
        ),
    )
    result: Callable[..., Any] = choosing
    for option in reversed(options):
        result = option(result)
    return result


@contextmanager
def reported() -> Iterator[None]:
    """Let what can go wrong outside this program end the command with its text, not a traceback."""
    try:
        yield
    except BrokenPipeError:  # whoever read has enough; click ends quietly
        raise
    except OSError as error:
        raise click.ClickException(str(error)) from error
    except LayerError as error:
        notes = "".join(f"\n{note}" for note in getattr(error, "__notes__", ()))
        raise click.ClickException(f"{error}{notes}") from error


@contextmanager
def opened(chosen: Chosen) -> Iterator[Layer]:
    """A layer that is there, for the time of a command; its errors end the command with their text."""
    with reported(), ExitStack() as stack:
        configuration = chosen.configuration()
        with configuration.told():
            options = configuration.options()
            events = options.pop("events", DEFAULT_EVENTS)
            log = stack.enter_context(open_event_log(events, options["table"], create=False))
            layer = stack.enter_context(Layer(**options, events=log))
        yield layer


def item_line(item: Item) -> bytes:
    """An item as a line of JSON, as segments write it."""
    return orjson.dumps(item_to_json(item), option=orjson.OPT_APPEND_NEWLINE)


def event_line(event: Event) -> bytes:
    """An event as a line of JSON; `import` takes its type, item, partition and id back."""
    return orjson.dumps(
        {
            "type": event.type,
            "partition": event.partition,
            "id": event.id,
            "version": event.version,
            "cursor": event.cursor,
            "at": to_iso(to_microseconds(event.at)),
            "item": item_to_json(event.item),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def shown(partition: str) -> str:
    """A name as it is, or quoted where it is empty, looks quoted, or would move the cursor."""
    plain = partition.isprintable() and partition and partition[0] not in "'\""
    return partition if plain else repr(partition)


def refuse_memory(configuration: Configuration) -> None:
    """Refuse a log that would be gone when the command ends."""
    events = configuration.values.get("events")
    if events is None or not str(events.given).startswith("memory:"):
        return
    where = "--events memory:" if events.source.kind == "option" else f"{events.source}: memory:"
    raise click.UsageError(f"{where} is gone when the command ends; name a file, as in sqlite:///events.db")


def print_json(state: Any) -> None:
    """Print a dataclass as JSON."""
    click.echo(orjson.dumps(asdict(state), option=orjson.OPT_INDENT_2).decode())


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[int] = ()) -> None:
    """Print rows under a head.

    Args:
        head: What the columns are called.
        rows: Their cells.
        numbers: The columns whose cells stand at their right edge.
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())
