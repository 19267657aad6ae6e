"""Whether a store or an event log can be reached, how fast, and whether it does what it claims: `doctor`."""

from __future__ import annotations

import secrets
from functools import partial

import click

from dynalayer.cli.options import reported
from dynalayer.cli.probing import examine_log, examine_store
from dynalayer.cli.stores import local_folder, without_empty_folders
from dynalayer.config import DEFAULT_TABLE
from dynalayer.opening import check_event_log, names_event_log, open_event_log

__all__ = ["doctor"]


@click.command()
@click.argument("url")
@click.option(
    "--table", default=DEFAULT_TABLE, show_default=True, help="The layer's table, where URL is an event log's."
)
def doctor(url: str, table: str) -> None:
    """Look whether a store or an event log can be reached, how fast it is, and whether it does what it claims.

    URL is a storage adapter's, as s3-json://BUCKET/PREFIX, or an event log's, as dynamodb://TABLE. In a store a few
    small segments are put, got, listed and discarded, under a table of its own, of a random name; an event log is only
    read. Nothing is left behind. Times are medians of a few calls. Exit 1 if something is wrong.
    """
    with reported():
        if names_event_log(url):
            check_event_log(url)
            found = examine_log(partial(open_event_log, url, table, create=False))
        else:
            probe_table = f"doctor-{secrets.token_hex(6)}"
            with without_empty_folders(local_folder(url), probe_table):
                found = examine_store(url, probe_table)
    width = max(len(finding.subject) for finding in found)
    for finding in found:
        click.echo(f"{finding.state:<9}  {finding.subject:<{width}}  {finding.told}".rstrip())
    if any(finding.state == "wrong" for finding in found):
        raise click.exceptions.Exit(1)
