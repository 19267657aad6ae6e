"""The command line: `dynalayer COMMAND`."""

from __future__ import annotations

import io
import sys

import click

from dynalayer.cli.configured import config
from dynalayer.cli.conformance import conformance
from dynalayer.cli.demo import demo
from dynalayer.cli.doctor import doctor
from dynalayer.cli.exporting import export
from dynalayer.cli.following import consumers, follow
from dynalayer.cli.installed import plugins
from dynalayer.cli.looking import explain, get, history, status
from dynalayer.cli.new_adapter import new_adapter
from dynalayer.cli.resetting import reset
from dynalayer.cli.streaming import follow_stream
from dynalayer.cli.taking import import_events
from dynalayer.cli.taking_over import import_snapshot
from dynalayer.cli.upkeep import create_table, sync, vacuum, verify

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dynalayer")
def main() -> None:
    """Changes in, true reads out: an event log and snapshots of a table's partitions.

    A command works on one layer: the --table's events in --events and its snapshots in --storage. What is not given
    comes from the environment (DYNALAYER_EVENTS …), from dynalayer.toml, or from [tool.dynalayer] in pyproject.toml,
    both of the working directory; "dynalayer config" shows what is in force.
    """
    # A name given in bytes that are no UTF-8 is shown escaped, as JSON writes it.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


for command in (
    import_events,
    import_snapshot,
    reset,
    follow_stream,
    get,
    history,
    export,
    follow,
    consumers,
    sync,
    status,
    explain,
    verify,
    vacuum,
    create_table,
    new_adapter,
    config,
    plugins,
    doctor,
    conformance,
    demo,
):
    main.add_command(command)
