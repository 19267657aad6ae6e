"""Rebuilding from the source: `reset`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import Any

import click

from dynalayer.cli.options import Chosen, layer_options, refuse_memory, reported
from dynalayer.cli.sourcing import chosen_source, from_jsonl_option, source_option
from dynalayer.layer import Layer
from dynalayer.states import ResetProgress, ResetResult
from dynalayer.wording import counted

__all__ = ["reset"]

_LABELS = {"scan": "reading the source", "commit": "committing"}
_STEPS = 10_000  # items between two plain lines


@click.command()
@click.argument("partition", required=False)
@layer_options
@source_option
@from_jsonl_option
@click.option("--spool", metavar="FILE", help="Keep what was read here: after a crash the same command goes on.")
@click.option("--dead-letters", metavar="FILE", help="Add items that cannot be taken to this file, and go on.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def reset(
    partition: str | None,
    chosen: Chosen,
    source: str | None,
    from_jsonl: str | None,
    spool: str | None,
    dead_letters: str | None,
    *,
    quiet: bool,
) -> None:
    """Rebuild one PARTITION, or all, from the source table, with every event on top that came since.

    Events that come meanwhile are never lost, and readers see the old or the new. Partitions that the source no longer
    has become empty. The table's items must be told apart by what identifies them in the layer.
    """
    with reported():
        configuration = chosen.configuration()
        refuse_memory(configuration)
        with configuration.told():
            settings = configuration.options()
        items = chosen_source(source, from_jsonl, settings)
        with configuration.told():
            layer = Layer(**settings)
        with layer, _Shown(quiet=quiet) as shown:
            result = layer.reset(items, partition, spool=spool, dead_letters=dead_letters, progress=shown)
    _tell(result, dead_letters)


def _tell(result: ResetResult, dead_letters: str | None) -> None:
    if result.locked and not result.left and not result.partitions:
        click.echo("Error: another reset is at work, and nothing was done", err=True)
        raise click.exceptions.Exit(1)
    partitions = counted(len(result.partitions), "partition")
    click.echo(f"{counted(result.count, 'item')} taken, in {partitions}")
    if result.refused:
        click.echo(f"{counted(result.refused, 'item')} could not be taken: {dead_letters} has them")
    if result.left:
        left = ", ".join(map(repr, result.left[:10])) + (" …" if len(result.left) > 10 else "")
        click.echo(f"Error: syncs are at work on {left}: left as they were; run it again", err=True)
        raise click.exceptions.Exit(1)


class _Shown:
    """Shows progress on standard error: bars on a terminal, plain lines elsewhere.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bars = not quiet and sys.stderr.isatty()
        self._stack = ExitStack()
        self._phase = ""
        self._bar: Any = None
        self._told = 0

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, progress: ResetProgress) -> None:
        """Show how far it is."""
        if self._quiet:
            return
        done = progress.items if progress.phase == "scan" else progress.partitions
        if self._bars:
            self._advance(progress, done)
        elif progress.phase != self._phase or progress.items >= self._told + _STEPS or done == progress.of:
            self._phase, self._told = progress.phase, progress.items
            of = "" if progress.of is None else f" of {'about ' if progress.phase == 'scan' else ''}{progress.of:,}"
            what = "items" if progress.phase == "scan" else f"partitions, {progress.items:,} items"
            click.echo(f"{_LABELS[progress.phase]}: {done:,}{of} {what}", err=True)

    def _advance(self, progress: ResetProgress, done: int) -> None:
        if progress.phase != self._phase:
            self._stack.close()
            self._phase = progress.phase
            # The count of a table is hours old: a bar that would be full too early grows instead.
            bar: Any = click.progressbar(
                length=max(progress.of or 1, done), label=_LABELS[progress.phase], show_pos=True, file=sys.stderr
            )
            self._bar = self._stack.enter_context(bar)
        self._bar.length = max(self._bar.length, done)
        self._bar.update(done - self._bar.pos)
