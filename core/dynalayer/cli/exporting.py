"""A partition for other programs: `export`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import click

from dynalayer.cli.options import Chosen, layer_options, opened
from dynalayer.durable import DurableFiles, file_failure
from dynalayer.errors import InvalidInputError
from dynalayer.layer import Layer
from dynalayer.optional import need
from dynalayer.plain import plain_json
from dynalayer.wording import counted

__all__ = ["export"]

_FORMATS = ("csv", "jsonl", "parquet")


@click.command()
@click.argument("partition", default="")
@layer_options
@click.option("--format", "form", type=click.Choice(_FORMATS), help="[default: by the ending of FILE]")
@click.option("--output", default="-", show_default=True, metavar="FILE", help="Where to; - is standard output.")
@click.option("--columns", metavar="A,B", help="Only these attributes. [default: all]")
def export(partition: str, chosen: Chosen, form: str | None, output: str, columns: str | None) -> None:
    """Write the items of a PARTITION as they are now, for other programs: CSV, JSON Lines or Parquet.

    A FILE is written whole or not at all. CSV and Parquet, in no order, have a column an attribute, which needs
    pyarrow; JSON Lines, sorted by identifier, an object an item. What plain JSON has no word for is lost there: a
    Decimal is a number, bytes are base64, a set is a list.
    """
    form = form or Path(output).suffix.removeprefix(".").lower()
    if form not in _FORMATS:
        raise click.UsageError(
            f"--output {output} does not tell the format by its ending; add --format {', '.join(_FORMATS)}"
        )
    wanted = None if columns is None else columns.split(",")
    with opened(chosen) as layer, _target(output) as file:
        count = _write(layer, partition, form, wanted, file)
    if output != "-":
        click.echo(f"{counted(count, 'item')} written to {output}")


def _write(layer: Layer, partition: str, form: str, columns: Sequence[str] | None, file: IO[bytes]) -> int:
    if form == "jsonl":
        return _write_lines(layer, partition, columns, file)
    writing = need("dynalayer.columns.writing", f"--format {form}", packages=("pyarrow",), install="dynalayer[parquet]")
    count: int = writing.WRITERS[form](layer.scan(partition, columns=columns), file)
    return count


def _write_lines(layer: Layer, partition: str, columns: Sequence[str] | None, file: IO[bytes]) -> int:
    items = layer.get(partition)
    if columns is not None:
        names = sorted({name for item in items for name in item})
        for name in columns if names else ():
            if name not in names:
                near = difflib.get_close_matches(name, names, 3) or names[:20]
                raise InvalidInputError(
                    f"no item of {partition!r} has an attribute {name!r}; there are: {', '.join(near)}"
                )
        items = [{name: item[name] for name in columns if name in item} for item in items]
    for item in items:
        file.write(plain_json(item) + b"\n")
    return len(items)


@contextmanager
def _target(output: str) -> Iterator[IO[bytes]]:
    """What to write to; a file gets its name when all of it is there."""
    if output == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(output).resolve()  # of a link, what it leads to
    if path.is_dir() or not path.parent.is_dir():
        raise click.UsageError(f"--output {output}: " + ("is a folder" if path.is_dir() else "its folder is not there"))
    try:
        if path.exists() and not path.is_file():  # a pipe or a device keeps its place
            with path.open("wb") as file:
                yield file
            return
        with DurableFiles(path.parent).new(path) as file:
            yield file
    except OSError as error:
        raise file_failure("write", path, error) from error
