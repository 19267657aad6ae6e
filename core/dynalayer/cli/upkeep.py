"""Keeping a layer: `sync`, `verify`, `vacuum`."""

from __future__ import annotations

import click

from dynalayer.cli.options import Chosen, layer_options, opened, reported, shown
from dynalayer.cli.sourcing import chosen_source, from_jsonl_option, source_option
from dynalayer.comparing import Comparison
from dynalayer.opening import DEFAULT_EVENTS, need_dynamodb
from dynalayer.wording import counted

__all__ = ["create_table", "sync", "vacuum", "verify"]

_KINDS = {
    "missing here": "missing here, the source has it",
    "missing there": "missing in the source, it is here",
    "different": "differs in",
}


@click.command()
@click.argument("partition", required=False)
@layer_options
def sync(partition: str | None, chosen: Chosen) -> None:
    """Fold pending events into snapshots: of one PARTITION, or all."""
    with opened(chosen) as layer:
        result = layer.sync(partition)
    click.echo(f"{counted(result.count, 'event')} folded, in {counted(len(result.partitions), 'partition')}")
    if result.locked:
        click.echo("another sync is at work on some partitions, which were left to it")


@click.command()
@click.argument("partition", required=False)
@layer_options
@click.option("--against-source", is_flag=True, help="Compare all items with the source too, and tell which differ.")
@source_option
@from_jsonl_option
def verify(
    partition: str | None, chosen: Chosen, source: str | None, from_jsonl: str | None, *, against_source: bool
) -> None:
    """Read and check everything that is kept: of one PARTITION, or all. Exit 1 if something is wrong, or differs."""
    if not against_source and (source is not None or from_jsonl is not None):
        raise click.UsageError("a source is compared with --against-source")
    against = None
    with reported():
        if against_source:
            configuration = chosen.configuration()
            with configuration.told():
                settings = configuration.options()
            against = chosen_source(source, from_jsonl, settings)
        with opened(chosen) as layer:
            result = layer.verify(partition, against=against)
    for finding in result.findings:
        click.echo(f"{finding.partition!r}: {finding.subject}: {finding.problem}")
    click.echo(
        f"{counted(result.partitions, 'partition')}, {counted(result.segments, 'segment')} "
        f"and {counted(result.records, 'record')} read; "
        f"{len(result.findings):,} wrong"
    )
    if result.against is not None:
        _tell(result.against)
    if not result.ok:
        raise click.exceptions.Exit(1)


def _tell(against: Comparison) -> None:
    """Tell how the items compare with their source."""
    for each in against.differences:
        attributes = f" {', '.join(map(shown, each.attributes))}" if each.attributes else ""
        click.echo(f"{each.partition!r}: {shown(each.id)}: {_KINDS[each.kind]}{attributes}")
    missing_here, missing_there, different = against.missing_here, against.missing_there, against.different
    if missing_here + missing_there + different > len(against.differences):
        click.echo("…")
    click.echo(
        f"{counted(against.items, 'item')} of {against.source} compared: {missing_here:,} missing here, "
        f"{missing_there:,} missing there, {different:,} different"
    )
    if against.refused:
        click.echo(f"{counted(against.refused, 'item')} of the source cannot be taken: reset tells which")
    if against.changing:
        click.echo(f"{counted(against.changing, 'item')} could not be compared: events changed them meanwhile")


@click.command()
@click.argument("partition", required=False)
@layer_options
@click.option("--discard", is_flag=True, help="Really discard; without, only tell what would be.")
def vacuum(partition: str | None, chosen: Chosen, *, discard: bool) -> None:
    """Discard segments that neither a head nor the history names: of one PARTITION, or all."""
    with opened(chosen) as layer:
        result = layer.vacuum(partition, dry_run=not discard)
    for name, ref in result.discarded:
        click.echo(f"{name!r}: {ref}")
    for name, ref, reason in result.left:
        click.echo(f"{name!r}: {ref}: left, {reason}")
    done = "discarded" if discard else "would be discarded (--discard does it)"
    click.echo(f"{counted(len(result.discarded), 'segment')} {done}, {len(result.left):,} left that nothing names")


@click.command("create-table")
@click.argument("url", required=False)
@layer_options
def create_table(url: str | None, chosen: Chosen) -> None:
    """Make the DynamoDB table of an event log: URL is dynamodb://TABLE?region=REGION.

    Left out it is the layer's event log.

    Keys, index, TTL and billing by request are as the log needs them. A table that is there already is only checked,
    and its TTL switched on.
    """
    if url is not None and chosen != Chosen(None, None, {}):
        raise click.UsageError("URL names the event log, and the options name another; leave one out")
    with reported():
        if url is None:
            configuration = chosen.configuration()
            with configuration.told():
                url = configuration.options().get("events", DEFAULT_EVENTS)
        made = need_dynamodb().create_table(url)
    if made.created:
        click.echo(f"made table {made.name}: keys pk and sk, index cursor-index, TTL on ttl, billed by request; active")
        return
    click.echo(f"table {made.name} is there already, with the right keys and index; ", nl=False)
    click.echo("its TTL is switched on now" if made.ttl_enabled else "nothing was to be done")
