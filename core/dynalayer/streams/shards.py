"""A stream's shards: which may be read now. A shard is read only after its parent was read to its end."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dynalayer.streams.positions import Position

__all__ = ["Shard", "readable", "shards_of"]


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard, as the stream is described.

    Attributes:
        name: Its name.
        parent: The shard that it goes on from, where the stream still tells one.
        open: Whether records may still come.
    """

    name: str
    parent: str | None
    open: bool


def shards_of(page: Mapping[str, Any]) -> list[Shard]:
    """The shards that a page of a stream's description tells."""
    return [
        Shard(
            each["ShardId"],
            each.get("ParentShardId") or None,
            each.get("SequenceNumberRange", {}).get("EndingSequenceNumber") is None,
        )
        for each in page.get("Shards", ())
    ]


def readable(shards: Iterable[Shard], positions: Mapping[str, Position]) -> list[Shard]:
    """The shards to read now: not read to their end, and nothing that came before them is still to be read.

    A parent that the stream does not tell any more is older than what it keeps.

    Args:
        shards: All that the stream tells.
        positions: How far shards were read.
    """
    told = {shard.name: shard for shard in shards}
    left = {name for name in told if not _done(name, positions)}
    # What is being read stays to be read, whether or not it is told.
    left |= {name for name, position in positions.items() if not position.closed}
    return [shard for name, shard in told.items() if name in left and not _waits(shard, left)]


def _done(name: str, positions: Mapping[str, Position]) -> bool:
    return name in positions and positions[name].closed


def _waits(shard: Shard, left: Collection[str]) -> bool:
    return shard.parent is not None and shard.parent != shard.name and shard.parent in left
