"""A table's stream taken into its layer by a process: `follow-stream`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import FrameType

import click

from dynalayer.cli.options import Chosen, layer_options, refuse_memory, reported
from dynalayer.cli.sourcing import place_of_log, source_option
from dynalayer.errors import ConfigurationError
from dynalayer.layer import Layer
from dynalayer.streams import Followed, follow
from dynalayer.streams.positions import Start
from dynalayer.urls import URL
from dynalayer.wording import counted

__all__ = ["follow_stream"]


@click.command("follow-stream")
@layer_options
@click.option("--stream-arn", metavar="ARN", help="The stream. [default: the newest of the layer's table]")
@source_option
@click.option(
    "--from",
    "start",
    type=click.Choice(["latest", "trim-horizon"]),
    default="latest",
    show_default=True,
    help="Where to begin if nobody has followed it before: with what comes now, or with all that it has.",
)
@click.option("--anew", is_flag=True, help="Forget how far it was followed, and begin so. Nobody else may follow then.")
@click.option("--once", is_flag=True, help="End when all that is there was taken.")
@click.option("--dead-letters", metavar="FILE", help="Set aside here what the layer's functions refuse, and go on.")
@click.option(
    "--poll",
    type=click.FloatRange(0, 600),
    default=1.0,
    show_default=True,
    help="Seconds to wait before asking again where nothing was new.",
)
def follow_stream(
    chosen: Chosen,
    stream_arn: str | None,
    source: str | None,
    start: Start,
    dead_letters: str | None,
    poll: float,
    *,
    anew: bool,
    once: bool,
) -> None:
    """Take the stream of the layer's table into the layer, until SIGTERM or SIGINT ends it.

    Each change of the table becomes an event, exactly once; of one item in order. How far it came is kept in the event
    log, and the next start goes on there. To begin on a table that has items: start this first, then reset the layer.
    """
    with reported(), ExitStack() as stack:
        configuration = chosen.configuration()
        refuse_memory(configuration)
        with configuration.told():
            options = configuration.options()
            place = _place(source, options.get("events"), options["table"])
            layer = stack.enter_context(Layer(**options))
        stop = stack.enter_context(_stopped_by_signals())
        teller = _Teller(start)
        done = follow(
            layer,
            stream_arn=stream_arn,
            region=place.get("region"),
            endpoint_url=place.get("endpoint_url"),
            start=start,
            anew=anew,
            once=once,
            dead_letters=dead_letters,
            poll=poll,
            stop=stop,
            progress=teller.tell,
        )
    click.echo(
        f"{counted(done.records, 'record')} read: {counted(done.events, 'event')} taken, "
        f"{counted(done.known, 'change')} known already, {counted(done.set_aside, 'record')} set aside"
    )


class _Teller:
    """Says that it follows, once it does."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._told = False

    def tell(self, followed: Followed) -> None:
        if self._told:
            return
        self._told = True
        whence = f"from {self._start}" if followed.first else "from where it was followed to"
        click.echo(f"following {followed.stream} {whence}: {counted(followed.shards, 'shard')}")


def _place(source: str | None, events: object, table: str) -> Mapping[str, str]:
    """Region and endpoint of the table."""
    if source is None:
        return place_of_log(events)
    url = URL.parse(source, what="source")
    url.refuse_options(frozenset({"region", "endpoint_url"}))
    if url.scheme != "dynamodb" or url.location != f"//{table}":
        raise ConfigurationError(
            f"source: the stream of the layer's table is followed, dynamodb://{table}?region=REGION; "
            "--table names another layer's"
        )
    return url.options


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that is set by the first SIGTERM or SIGINT; a second one does what it ever does."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def end(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        restore()

    for number in before:
        signal.signal(number, end)
    try:
        yield stop
    finally:
        restore()
