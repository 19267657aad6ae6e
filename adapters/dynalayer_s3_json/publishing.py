"""What other programs read: all items of a partition as one plain JSON array, at a key that does not change."""

from __future__ import annotations

from collections.abc import Mapping

from dynalayer import Item, StorageError, plain_json
from dynalayer_s3_json.keys import Keys
from dynalayer_s3_json.objects import Found, Objects

__all__ = ["Publisher"]

_TRIES = 16  # each loses only to somebody else who published
_TABLE, _ORIGIN, _VERSION = "dynalayer-table", "dynalayer-origin", "dynalayer-version"


class Publisher:
    """Publishes partitions.

    Args:
        objects: The bucket's.
        keys: The layer's.
    """

    def __init__(self, objects: Objects, keys: Keys) -> None:
        self._objects = objects
        self._keys = keys

    def publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> None:
        """Let a partition's object hold these items, unless it holds newer ones of the same log.

        What carries no marks of a layer is taken over: the cache of another program, whose part this one takes.

        Raises:
            StorageError: Another table's layer publishes there; or S3 failed.
        """
        key = self._keys.published(partition)
        body = plain_json([items[identifier] for identifier in sorted(items)])
        marks = {_TABLE: self._keys.table, _ORIGIN: origin, _VERSION: str(version)}
        for _ in range(_TRIES):
            found = self._objects.find(key)
            if found and self._is_newer(key, found, origin, version):
                return
            if self._objects.replace(key, body, found, {"ContentType": "application/json", "Metadata": marks}):
                return
        raise StorageError(
            f"others replaced {self._objects.location(key)} at each of {_TRIES} tries to publish it; sync again",
            retryable=True,
        )

    def _is_newer(self, key: str, found: Found, origin: str, version: int) -> bool:
        """Whether what is published is as new as this version, by the log that counts it."""
        table = found.metadata.get(_TABLE)
        if table not in (None, self._keys.table):
            raise StorageError(
                f"{self._objects.location(key)} is published by a layer of table {table!r:.300}: give each table that "
                "publishes a prefix of its own; if that layer is no more, remove the object and sync again"
            )
        published = found.metadata.get(_VERSION, "")
        # Of another log, even one of this table, the number says nothing: this log has taken that one's place.
        return found.metadata.get(_ORIGIN) == origin and published.isdecimal() and int(published) >= version
