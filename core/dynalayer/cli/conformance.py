"""Whether a store keeps every promise: `conformance`."""

from __future__ import annotations

import click

from dynalayer.cli.options import reported
from dynalayer.cli.stores import local_folder, without_empty_folders
from dynalayer.optional import need
from dynalayer.wording import counted

__all__ = ["conformance"]


@click.command()
@click.argument("url")
@click.option(
    "--raw",
    metavar="URL",
    help="The same place as fsspec names it (s3://bucket/prefix, file:///folder), to damage on purpose what the kit "
    "stored there; URLs of local files need none.",
)
def conformance(url: str, raw: str | None) -> None:
    """Run the conformance kit against a live store: every promise of an adapter, one by one.

    URL is a storage adapter's, as s3-json://BUCKET/PREFIX. All is stored under tables of its own, of random names, and
    taken away again; nothing else is touched. Exit 1 if a promise is broken.
    """
    with reported():
        live = need(
            "dynalayer.testing.adapters.live",
            "the conformance kit",
            packages=("pytest", "_pytest"),
            install="dynalayer[testing]",
        )
        folder = local_folder(url)
        access = live.raw_files(raw) if raw is not None else live.raw_folder(folder) if folder is not None else None
        run = live.Live(url, access)
        with without_empty_folders(folder, run.table):
            click.echo(f"{run.probe()!r}, under tables named {run.table}-…")
            if access is None:
                click.echo("without --raw nothing is damaged on purpose: what is to be noticed then is not tested")
            counts = dict.fromkeys(("passed", "failed", "not tested"), 0)
            for outcome in run.run():
                counts[outcome.result] += 1
                click.echo(f"{outcome.result:<10}  {outcome.promise}")
                if outcome.reason:
                    click.echo(f"{'':<12}{_short(outcome.reason)}")
    for line in run.left:
        click.echo(f"left behind: {line}", err=True)
    told = ", ".join(f"{count} {result}" for result, count in counts.items())
    click.echo(f"{counted(sum(counts.values()), 'promise')}: {told}")
    if counts["failed"]:
        raise click.exceptions.Exit(1)


def _short(reason: str) -> str:
    """The first line of a reason: what follows, where it is run by pytest, compares values."""
    line = reason.partition("\n")[0]
    return line if len(line) <= 500 else f"{line[:500]}…"
