"""What the commands share: options that name a layer, errors as one line, JSON as it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, TypeVar

import click
import orjson

from dynalayer.clock import to_iso, to_microseconds
from dynalayer.errors import LayerError
from dynalayer.events import Event
from dynalayer.layer import Layer
from dynalayer.opening import DEFAULT_EVENTS, DEFAULT_STORAGE, open_event_log
from dynalayer.values import Item, item_to_json

__all__ = ["event_line", "item_line", "layer_options", "opened", "print_json", "refuse_memory", "reported", "shown"]

F = TypeVar("F", bound=Callable[..., Any])


def layer_options(command: F) -> F:
    """Add the options that name a layer."""
    options = (
        click.option("--table", default="items", show_default=True, help="The layer's table."),
        click.option("--events", default=DEFAULT_EVENTS, show_default=True, metavar="URL", help="The event log."),
        click.option(
            "--storage", default=DEFAULT_STORAGE, show_default=True, metavar="URL", help="Where snapshots are kept."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


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
def opened(table: str, events: str, storage: str) -> Iterator[Layer]:
    """A layer that is there, for the time of a command; its errors end the command with their text."""
    with (
        reported(),
        open_event_log(events, table, create=False) as log,
        Layer(table=table, events=log, storage=storage) as layer,
    ):
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


def refuse_memory(events: str) -> None:
    """Refuse a log that would be gone when the command ends."""
    if events.startswith("memory:"):
        raise click.UsageError("--events memory: is gone when the command ends; name a file, as in sqlite:///events.db")


def print_json(state: Any) -> None:
    """Print a dataclass as JSON."""
    click.echo(orjson.dumps(asdict(state), option=orjson.OPT_INDENT_2).decode())
