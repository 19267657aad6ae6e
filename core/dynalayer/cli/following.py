"""Following a layer: `follow`, `consumers`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

import click
import orjson

from dynalayer.cli.options import Chosen, event_line, layer_options, opened, print_table, shown
from dynalayer.clock import to_iso, to_microseconds
from dynalayer.following import Consumer, Feed
from dynalayer.wording import counted

__all__ = ["consumers", "follow"]


def _place(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | str | int | None:
    """`beginning`, `now`, a version, or an ISO 8601 moment with its time zone."""
    if value is None or value in ("beginning", "now"):
        return value
    if value.isascii() and value.isdecimal() and len(value) <= 18:
        return int(value)
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is neither beginning nor now, nor an ISO 8601 moment: {error}") from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"{value!r} has no time zone; as in 2026-01-31T12:00:00Z")
    return moment


def _since(ctx: click.Context, param: click.Parameter, value: str | None) -> datetime | str | None:
    place = _place(ctx, param, value)
    if isinstance(place, int):
        raise click.BadParameter(f"{value!r} is a version, which is one partition's; see dynalayer consumers --move-to")
    return place


@click.command()
@layer_options
@click.option("--consumer", required=True, metavar="NAME", help="The name under which the position is kept.")
@click.option(
    "--since",
    callback=_since,
    metavar="[beginning|now|MOMENT]",
    help="Where a new consumer begins; a moment is ISO 8601 with time zone. [default: beginning]",
)
@click.option("--since-cursor", metavar="CURSOR", help="Likewise: after the sync with this cursor.")
@click.option("--once", is_flag=True, help="End when all that is there is read.")
@click.option(
    "--poll",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, 3600, min_open=True),
    metavar="SECONDS",
    help="Between two looks for something new.",
)
@click.option("--partition", "partitions", multiple=True, help="Only this one; may be repeated.")
def follow(
    chosen: Chosen,
    consumer: str,
    since: datetime | str | None,
    since_cursor: str | None,
    poll: float,
    partitions: Sequence[str],
    *,
    once: bool,
) -> None:
    """Print every event of all partitions as JSON Lines, each at least once, a partition's in order.

    The log keeps how far the consumer has come: what was printed is not printed again, but after a crash. A line of
    type RESET says that up to a version the partition's items have changed without events.
    """
    if since is not None and since_cursor is not None:
        raise click.UsageError("--since and --since-cursor exclude each other")
    with (
        opened(chosen) as layer,
        layer.follow(
            consumer,
            since=since if since_cursor is None else since_cursor,
            wait=not once,
            poll=poll,
            partitions=partitions or None,
            on_reset=_print_reset,
        ) as feed,
        _stopped_by_signals(feed),
    ):
        for event in feed:
            click.echo(event_line(event), nl=False)  # flushed, before the next is asked for: it counts as handled then


def _print_reset(partition: str, version: int) -> None:
    line = {"type": "RESET", "partition": partition, "version": version}
    click.echo(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE), nl=False)


@contextmanager
def _stopped_by_signals(feed: Feed) -> Iterator[None]:
    """Let SIGINT and SIGTERM end a feed after the event at hand, with all saved."""
    if threading.current_thread() is not threading.main_thread():  # no signal comes there
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        feed.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.argument("name", required=False)
@layer_options
@click.option(
    "--move-to",
    callback=_place,
    metavar="[beginning|now|MOMENT|VERSION]",
    help="Let NAME go on there; a version is one partition's, and it goes on after it.",
)
@click.option("--move-to-cursor", metavar="CURSOR", help="Likewise: after the sync with this cursor.")
@click.option("--partition", help="Move it in this one only.")
@click.option("--forget", is_flag=True, help="Forget NAME and its positions.")
@click.option("--json", "as_json", is_flag=True, help="What there is, with each partition, as JSON.")
def consumers(
    name: str | None,
    chosen: Chosen,
    move_to: datetime | str | int | None,
    move_to_cursor: str | None,
    partition: str | None,
    *,
    forget: bool,
    as_json: bool,
) -> None:
    """Show who follows the layer, and how many events each is behind; or NAME, partition by partition.

    With --move-to or --forget NAME is moved, or forgotten. Who follows under that name is told, and ends.
    """
    asked = [option for option in (move_to, move_to_cursor, forget or None, as_json or None) if option is not None]
    if len(asked) > 1:
        raise click.UsageError("--move-to, --move-to-cursor, --forget and --json exclude each other")
    to = move_to if move_to_cursor is None else move_to_cursor
    if name is None and (to is not None or forget):
        raise click.UsageError("NAME says which consumer")
    if partition is not None and to is None:
        raise click.UsageError("--partition goes with --move-to or --move-to-cursor")
    if isinstance(to, int) and partition is None:
        raise click.UsageError("a version is one partition's: --partition names it")
    with opened(chosen) as layer:
        if name is not None and to is not None:
            layer.move_consumer(name, to, partition=partition)
            click.echo(f"consumer {shown(name)}: moved; who followed under that name has to follow again")
        elif name is not None and forget:
            layer.forget_consumer(name)
            click.echo(f"consumer {shown(name)}: forgotten")
        else:
            found = [each for each in layer.consumers() if name in (None, each.name)]
            if name is not None and not found:
                raise click.ClickException(f"there is no consumer {shown(name)}")
            _show(found, whole=name is not None, as_json=as_json)


def _show(found: Sequence[Consumer], *, whole: bool, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps([_as_json(each) for each in found], option=orjson.OPT_INDENT_2).decode())
        return
    if not found:
        click.echo("no consumers; dynalayer follow --consumer NAME makes one")
        return
    rows = [(shown(each.name), each.since, to_iso(to_microseconds(each.made_at)), f"{each.behind:,}") for each in found]
    print_table(("CONSUMER", "SINCE", "MADE", "BEHIND"), rows, numbers=(3,))
    if whole:
        places = [(shown(each.partition), f"{each.version:,}", f"{each.behind:,}") for each in found[0].partitions]
        click.echo(f"\nit follows {counted(len(places), 'partition')}")
        print_table(("PARTITION", "VERSION", "BEHIND"), places, numbers=(1, 2))


def _as_json(consumer: Consumer) -> dict[str, object]:
    return {
        "name": consumer.name,
        "since": consumer.since,
        "made_at": to_iso(to_microseconds(consumer.made_at)),
        "behind": consumer.behind,
        "partitions": consumer.partitions,
    }
