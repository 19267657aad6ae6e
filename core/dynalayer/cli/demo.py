"""The main job on real input, in a minute: `demo`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

import click

from dynalayer.cli.looking import show_status
from dynalayer.cli.options import reported
from dynalayer.cli.taking import Importer
from dynalayer.events import EventReader
from dynalayer.layer import Layer
from dynalayer.wording import counted

__all__ = ["demo"]

_EVENTS = files("dynalayer.cli").joinpath("demo.jsonl.gz")
_PARTITION = "scripts"


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        if keep.exists():
            raise click.UsageError(f"--keep {keep}: it is there already; name a new folder")
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="dynalayer-demo-") as folder:
        yield Path(folder)


@click.command()
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep what it makes, in this new folder."
)
def demo(keep: Path | None) -> None:
    """Run the main job on a part of a real repository's history, and show what happened."""
    with reported(), _folder(keep) as folder:
        layer = Layer(
            table="files",
            get_item_unique_identifier="path",
            get_item_partition="dir",
            events=f"sqlite:///{quote(str((folder / 'events.db').absolute()))}",
            storage=f"local://{quote(str((folder / 'snapshots').absolute()))}",
        )
        with layer:
            _run(layer)
        if keep is not None:
            where = f"--table files --events sqlite:///{folder / 'events.db'} --storage local:{folder / 'snapshots'}"
            click.echo(f"\nkept in {folder}; look around with\n  dynalayer status {where}")


def _run(layer: Layer) -> None:
    with _EVENTS.open("rb") as file:
        importer = Importer(layer, EventReader("files", "path", "dir"), "demo.jsonl.gz", frozenset(), size=100)
        importer.take(file)
    _say(f"1. {importer.taken} changes of {len(importer.partitions)} folders of a public repository went in")
    _counts(layer)
    before = layer.get(_PARTITION)
    _say(f"2. a read of {_PARTITION!r}, before any sync: {len(before)} items; a reader sees its own writes at once")
    for item in before[:3]:
        click.echo(f"   {item['mode']} {item['sha'][:10]} {item['path']}")
    result = layer.sync()
    _say(f"3. sync() folded {result.count} events of {len(result.partitions)} partitions, cursor {result.cursor}")
    _counts(layer)
    show_status([layer.meta(partition) for partition in layer.partitions()])
    if layer.get(_PARTITION) != before:
        raise click.ClickException(f"the read of {_PARTITION!r} gives other items after the sync than before it")
    _say("4. the same read, now from the snapshot: the same items")
    item = max(before, key=lambda each: len(layer.history(_PARTITION, id=each["path"])))
    path = item["path"]
    version = layer.meta(_PARTITION).version
    layer.set([{"type": "UPDATE", "item": {**item, "sha": "0" * 40}}])
    now, then = (
        next(each["sha"] for each in layer.get(_PARTITION, at=at) if each["path"] == path) for at in (None, version)
    )
    _say(f"5. one more change, of {path}: it reads {now[:10]} now, and {then[:10]} as of version {version}")
    _counts(layer)
    _say(f"6. its history, {len(layer.history(_PARTITION, id=path))} changes; the last three:")
    for event in layer.history(_PARTITION, id=path)[-3:]:
        click.echo(f"   version {event.version} {event.type:6} {event.item.get('sha', '')[:10]} {event.cursor}")
    verified = layer.verify()
    _say(f"7. verify: {verified.segments} segments, {verified.records} records, {len(verified.findings)} wrong")


def _say(text: str) -> None:
    click.echo()
    click.secho(text, bold=True)


def _counts(layer: Layer) -> None:
    meta = layer.meta()
    click.echo(
        f"   pending {meta.unsynced_total}, folded {meta.synced_total}, synced {counted(meta.synced_times, 'time')}"
    )
