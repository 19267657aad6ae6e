"""Taking over what another program kept: `import-snapshot`."""

from __future__ import annotations

import sys

import click

from dynalayer.cli.caches import Cache, find_caches
from dynalayer.cli.options import Chosen, layer_options, refuse_memory, reported, shown
from dynalayer.errors import LayerError
from dynalayer.layer import Layer
from dynalayer.wording import counted

__all__ = ["import_snapshot"]


@click.command("import-snapshot")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@layer_options
@click.option("--id-attribute", metavar="NAME", help="Attribute that identifies an item. [default: as configured]")
@click.option(
    "--partition-attribute",
    metavar="NAME",
    help="Attribute that must say an item's partition. [default: as configured, or none]",
)
@click.option("--partition", metavar="NAME", help="Partition of the one SOURCE. [default: its name without .json]")
@click.option("--floats", is_flag=True, help="Take numbers with a fraction or an exponent as floats, not as Decimals.")
def import_snapshot(
    sources: tuple[str, ...],
    chosen: Chosen,
    id_attribute: str | None,
    partition_attribute: str | None,
    partition: str | None,
    *,
    floats: bool,
) -> None:
    """Take over partitions that another program keeps, each as a plain JSON array of its items, without a rebuild.

    A SOURCE is such a file, gzip or plain; a folder, of which all *.json below are taken, each as the partition that
    its path says; s3://bucket/prefix/ or another URL of fsspec's; or - for standard input, with --partition. Events of
    these partitions count as later. A partition that cannot be taken is told and left as it was, and the others are
    taken.
    """
    with reported():
        configuration = chosen.configuration(
            get_item_unique_identifier=id_attribute, get_item_partition=partition_attribute
        )
        refuse_memory(configuration)
        with configuration.told():
            settings = configuration.options()
        if settings.get("get_item_unique_identifier") is None:
            raise click.UsageError(
                "--id-attribute is missing, and get_item_unique_identifier is not configured: "
                "something must tell items apart"
            )
        caches = find_caches(sources, partition, sys.stdin.buffer)
        with configuration.told():
            layer = Layer(**settings)
        with layer:
            failed = sum(not _taken(layer, cache, floats=floats) for cache in caches)
    click.echo(f"{counted(len(caches) - failed, 'partition')} taken over, {failed:,} not")
    if failed:
        raise click.exceptions.Exit(1)


def _taken(layer: Layer, cache: Cache, *, floats: bool) -> bool:
    """Take one over, or tell why not."""
    try:
        taken = layer.import_snapshot(cache.partition, cache.items(floats=floats))
    except (LayerError, OSError) as error:
        said = str(error)
        click.echo(f"Error: {said if said.startswith(cache.name) else f'{cache.name}: {said}'}", err=True)
        return False
    click.echo(
        f"{shown(cache.partition)}: {counted(taken.count, 'item')}, {counted(taken.folded, 'event')} folded on top"
    )
    return True
