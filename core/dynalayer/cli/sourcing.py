"""The options that name a source of items, and the source that they name."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dynalayer.cli.taking import lines_of
from dynalayer.errors import InvalidInputError
from dynalayer.sourcing.sources import SourceOption, need_source_tables
from dynalayer.urls import URL
from dynalayer.values import UNDECODABLE, Item, item_from_json

__all__ = ["chosen_source", "from_jsonl_option", "place_of_log", "source_option"]

source_option = click.option(
    "--source",
    metavar="URL",
    help="The source table: dynamodb://TABLE?region=REGION. [default: the layer's table, where the event log is, or in "
    "the region of boto3's chain]",
)
from_jsonl_option = click.option(
    "--from-jsonl",
    metavar="FILE",
    help="Items of a JSON Lines file, plain or gzip, as `get` prints them, in place of a source table.",
)


def chosen_source(source: str | None, from_jsonl: str | None, settings: Mapping[str, Any]) -> SourceOption:
    """The source that the options name; the layer's table where they name none.

    Args:
        source: A URL.
        from_jsonl: A file.
        settings: The layer's, among them its table and its event log.

    Raises:
        ConfigurationError: The URL is wrong, or boto3 is not installed.
        InvalidInputError: There is no such file.
    """
    if source is not None and from_jsonl is not None:
        raise click.UsageError("--source and --from-jsonl exclude each other")
    if from_jsonl is not None:
        path = Path(from_jsonl)
        if not path.is_file():
            raise InvalidInputError(f"{from_jsonl}: there is no such file")
        return _ItemsFile(path)
    place = {} if source else place_of_log(settings.get("events"))
    return need_source_tables().open_table(source or f"dynamodb://{settings['table']}", **place)


def place_of_log(events: object) -> dict[str, str]:
    """Region and endpoint of the event log, if that is a table too."""
    if not isinstance(events, str):
        return {}
    url = URL.parse(events, what="events")
    if url.scheme != "dynamodb":
        return {}
    return {name: url.options[name] for name in ("region", "endpoint_url") if name in url.options}


@dataclass(frozen=True, slots=True)
class _ItemsFile:
    """The items of a JSON Lines file; called, it gives them."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __call__(self) -> Iterator[Item]:
        number = 0
        try:
            with self.path.open("rb") as file:
                for line in lines_of(file):
                    number += 1
                    if line.strip():
                        yield item_from_json(json.loads(line))
        except UNDECODABLE as error:
            raise InvalidInputError(f"{self.path}, line {number}: no JSON of an item: {error}") from error
        except (EOFError, OSError, zlib.error) as error:
            raise InvalidInputError(f"{self.path} cannot be read after line {number:,}: {error}") from error
