"""Looking at a layer: `get`, `history`, `status`, `explain`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import click

from dynalayer.cli.options import Chosen, event_line, item_line, layer_options, opened, print_json, print_table, shown
from dynalayer.costs import Prices, Usage
from dynalayer.states import PartitionMeta
from dynalayer.wording import counted

__all__ = ["explain", "get", "history", "show_status", "status"]


def _moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> datetime | None:
    """An ISO 8601 moment with its time zone."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is no ISO 8601 moment: {error}") from error
    if moment.tzinfo is None:
        raise click.BadParameter(f"{value!r} has no time zone; as in 2026-01-31T12:00:00Z")
    return moment


@click.command()
@click.argument("partition", default="")
@layer_options
@click.option("--at-version", type=click.IntRange(0), help="As it was at this version.")
@click.option(
    "--at-moment", callback=_moment, metavar="MOMENT", help="As it was at this moment, ISO 8601 with time zone."
)
@click.option("--at-cursor", help="As the sync with this cursor left it.")
def get(
    partition: str,
    chosen: Chosen,
    at_version: int | None,
    at_moment: datetime | None,
    at_cursor: str | None,
) -> None:
    """Print the items of a PARTITION as JSON Lines, sorted by identifier: now, or as they were."""
    given = [at for at in (at_version, at_moment, at_cursor) if at is not None]
    if len(given) > 1:
        raise click.UsageError("--at-version, --at-moment and --at-cursor exclude each other")
    with opened(chosen) as layer:
        for item in layer.get(partition, at=given[0] if given else None):
            click.echo(item_line(item), nl=False)


@click.command()
@click.argument("partition", default="")
@layer_options
@click.option("--id", "identifier", help="Only this item's.")
@click.option("--after", default=0, show_default=True, type=click.IntRange(0), help="Only above this version.")
@click.option("--through", type=click.IntRange(0), help="Only up to this version.")
def history(partition: str, chosen: Chosen, identifier: str | None, after: int, through: int | None) -> None:
    """Print the events of a PARTITION that are still kept, in order, as JSON Lines."""
    with opened(chosen) as layer:
        for event in layer.history(partition, id=identifier, after=after, through=through):
            click.echo(event_line(event), nl=False)


@click.command()
@click.argument("partition", required=False)
@layer_options
@click.option("--json", "as_json", is_flag=True, help="The counts alone, as JSON.")
def status(partition: str | None, chosen: Chosen, *, as_json: bool) -> None:
    """Show the counts of the layer and its partitions, or of one PARTITION."""
    with opened(chosen) as layer:
        if as_json:
            print_json(layer.meta() if partition is None else layer.meta(partition))
            return
        names = layer.partitions() if partition is None else [partition]
        if partition is None:
            meta = layer.meta()
            events = counted(meta.synced_total + meta.unsynced_total, "event")
            click.echo(f"table {layer.table_name}: {events} in {counted(len(names), 'partition')}", nl=False)
            click.echo(f", {meta.unsynced_total:,} of them pending")
            click.echo(f"synced {counted(meta.synced_times, 'time')}; last cursor {meta.cursor}")
        show_status([layer.meta(name) for name in names])
        _show_usage(layer.usage().values())


def _show_usage(usages: Iterable[Usage]) -> None:
    """Print what this command requested, where it is paid by request."""
    usage = sum(usages, Usage())
    if usage.requests:
        click.echo(f"this command: {counted(usage.requests, 'request')}, {_units(usage)}")


def _units(usage: Usage) -> str:
    return f"{counted(usage.read_units, 'read unit')}, {counted(usage.write_units, 'write unit')}"


@click.command()
@click.argument("partition", default="")
@layer_options
@click.option("--prices", "price_table", metavar="FILE", help="A TOML file of prices, in place of those built in.")
@click.option("--json", "as_json", is_flag=True, help="All of it as JSON.")
def explain(partition: str, chosen: Chosen, price_table: str | None, *, as_json: bool) -> None:
    """Tell what a read, an append and a sync of a PARTITION request, and what that costs.

    Beside them stands a plain Query of the same items. The partition is read for it.
    """
    with opened(chosen) as layer:
        prices = Prices() if price_table is None else Prices.from_toml(price_table)
        explained = layer.explain(partition, prices=prices)
    if as_json:
        print_json(explained)
        return
    items = f"{counted(explained.items, 'item')} of {counted(explained.item_bytes, 'byte')}"
    stored = f"{counted(explained.segments, 'segment')}, {counted(explained.pending, 'record')} pending"
    click.echo(f"partition {shown(partition)}: {items}; {stored}")
    if not explained.segments and not explained.pending:
        click.echo("no event of it is known yet; what it costs depends on what is set")
        return
    click.echo(f"prices of {prices.as_of} in {prices.region}, {prices.currency}")
    if not explained.append.requests:
        click.echo("the event log is not paid by request: of reads and syncs only what the storage is asked for counts")
    for title, cost in (
        ("first read of a process", explained.first_read),
        ("further read, nothing new", explained.read),
        ("first append of a process", explained.first_append),
        ("further append", explained.append),
        ("sync", explained.sync),
        ("plain Query of the same items", explained.plain_query),
    ):
        if not cost.requests:
            continue
        click.echo(f"\n{title}: {_units(cost.usage)}", nl=False)
        click.echo(f", {explained.price(cost) * 1_000_000:,.2f} {prices.currency} a million times")
        for request in cost.requests:
            click.echo(f"  {request.count:>6,} x {request.name:<20} {request.why}")


def show_status(partitions: list[PartitionMeta]) -> None:
    """Print a table of partitions."""
    if not partitions:
        return
    head = ("PARTITION", "VERSION", "FOLDED", "PENDING", "SEGMENTS", "CURSOR")
    rows = [
        (
            shown(meta.partition),
            f"{meta.version:,}",
            f"{meta.synced_total:,}",
            f"{meta.unsynced_total:,}",
            f"{meta.segments:,}",
            meta.cursor,
        )
        for meta in partitions
    ]
    print_table(head, rows, numbers=range(1, 5))
