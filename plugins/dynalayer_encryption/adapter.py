"""The wrapper: an adapter that hands on sealed segments, and opens what it is given back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynalayer import (
    Adapter,
    ConfigurationError,
    Item,
    Segment,
    SegmentCorruptError,
    StorageError,
    WrappedAdapter,
    hookimpl,
)
from dynalayer_encryption.keys import Key, Keys, key_from_environment, key_from_file
from dynalayer_encryption.sealing import FORMAT, SALT_BYTES, Unopened, chunks_of, opened, sealed

if TYPE_CHECKING:  # it needs pyarrow, which is an extra
    from dynalayer.columns import Columns

__all__ = ["Encryption", "EncryptionAdapter"]

# Attributes of the items that a store is handed. What begins with $ gets no column where segments are kept by columns.
_FORMAT, _KEY, _SALT, _DATA = "$format", "$key", "$salt", "$data"
_FIRST = "sealed"  # identifier of the item that says how; the others are numbered


class Encryption:
    """A wrapper that encrypts segments before those inside of it see them, and decrypts what they give back.

    Exactly one of the three says where keys come from.

    Args:
        key: A function that takes a key's id, or None for the current key, and returns the id and 32 bytes. It raises
            `KeyError` for an id that it does not know.
        key_env: A variable of the environment with `id:base64`, separated by commas, the current one first. It is read
            once.
        key_file: A file with the same, or with one on a line. It is read for every segment.

    Raises:
        ConfigurationError: There is none of them, more than one, or one without keys.
    """

    name = "encryption"

    def __init__(
        self,
        key: Callable[[str | None], tuple[str, bytes]] | None = None,
        *,
        key_env: str | None = None,
        key_file: Path | str | None = None,
    ) -> None:
        given = [
            name for name, value in (("key", key), ("key_env", key_env), ("key_file", key_file)) if value is not None
        ]
        if len(given) != 1:
            raise ConfigurationError(
                f"encryption takes its keys from one of key, key_env and key_file, not {' and '.join(given) or 'none'}"
            )
        if key is not None and not callable(key):
            raise ConfigurationError("encryption: key is a function of a key's id, not the key itself")
        self._keys = Keys(_source(key, key_env, key_file))

    def around(self, inner: Adapter) -> EncryptionAdapter:
        """Put it around an adapter.

        Raises:
            ConfigurationError: What it hides would come out, or is hidden already.
        """
        if inner.capabilities.publishing:
            raise ConfigurationError(
                f"storage: encryption stands in front of {inner.name}, which publishes a plain copy of every partition "
                "for other programs; switch publishing off, or leave encryption out"
            )
        if not inner.capabilities.immutable:
            raise ConfigurationError(
                f"storage: encryption stands in front of {inner.name}, which keeps one place a partition that may "
                "change: an old state put back there could not be told from the newest"
            )
        within: object = inner
        while within is not None:
            if isinstance(within, EncryptionAdapter):
                raise ConfigurationError(
                    "storage: encryption stands around encryption: that hides no more, and losing either key would "
                    "lose all; leave one out"
                )
            within = getattr(within, "inner", None)
        return EncryptionAdapter(inner, self._keys)


def _source(key: Key | None, key_env: str | None, key_file: Path | str | None) -> Key:
    if key is not None:
        return key
    if key_env is not None:
        return key_from_environment(key_env)
    return key_from_file(Path(key_file or ""))


class EncryptionAdapter(WrappedAdapter):
    """An adapter around another that is given sealed segments only; see `Encryption`.

    Args:
        inner: The other.
        keys: Knows the keys.
    """

    def __init__(self, inner: Adapter, keys: Keys) -> None:
        super().__init__(inner)
        self._keys = keys
        # By columns a store would have to see them: what asks for columns is answered from whole items.
        self.capabilities = replace(inner.capabilities, columns=False)

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """Store a segment, sealed."""
        return super().layer_setter(partition, self._sealed(segment))

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """Load a segment, and open it."""
        return self._opened(super().layer_getter(partition, ref), partition, ref)

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str | None:
        """Refused: nothing passes by."""
        raise StorageError(f"encryption stores no segment by columns ({columns.header.name!r} of {partition!r})")

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns | None:
        """Refused: what is sealed has no columns."""
        raise StorageError(f"encryption opens no segment by columns ({ref!r} of {partition!r})")

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool | None:  # noqa: ARG002 -- the hook's
        """Refused: nothing passes by."""
        raise StorageError(f"encryption publishes nothing ({partition!r} at version {version})")

    def _sealed(self, segment: Segment) -> Segment:
        key_id, key = self._keys.current()
        salt = secrets.token_bytes(SALT_BYTES)
        # Never as many items as the segment has entries: who reads without the wrapper then finds that it is another
        # segment than the one named, and never takes what is sealed for items.
        chunks = chunks_of(segment.to_bytes(), but=segment.entries - 1)
        items: dict[str, Item] = {_FIRST: {_FORMAT: FORMAT, _KEY: key_id, _SALT: salt}}
        done = sealed(chunks, key, key_id=key_id, salt=salt, header=segment.header)
        items.update((_numbered(number), {_DATA: chunk}) for number, chunk in enumerate(done))
        return replace(segment, items=items, deleted=frozenset())

    def _opened(self, segment: Segment, partition: str, ref: str) -> Segment:
        key_id, salt, chunks = _taken_apart(segment, ref)
        key = self._keys.by_id(key_id)
        try:
            plain = opened(chunks, key, key_id=key_id, salt=salt, header=segment.header)
        except Unopened:
            raise SegmentCorruptError(
                f"{ref!r} cannot be decrypted with key {key_id!r}: its bytes were changed, it was put in another "
                "segment's place, or another key has that id now"
            ) from None
        found = Segment.from_bytes(plain, source=f"what is sealed in {ref!r}")
        if found.header != segment.header or found.partition != partition:
            raise SegmentCorruptError(f"{ref!r} is a segment of another place, partition {found.partition!r}")
        return found


def _numbered(number: int) -> str:
    return f"{number:010d}"


def _taken_apart(segment: Segment, ref: str) -> tuple[str, bytes, list[bytes]]:
    """Key id, salt and chunks.

    Raises:
        SegmentCorruptError: It is not what `EncryptionAdapter` stores, and nothing of it is taken.
    """
    first = segment.items.get(_FIRST)
    if first is None:
        raise SegmentCorruptError(
            f"{ref!r} is not encrypted: it was stored without encryption, or put there by somebody else; a layer keeps "
            "all its segments with it or none"
        )
    if first.get(_FORMAT) != FORMAT:
        raise SegmentCorruptError(
            f"{ref!r} has encryption format {first.get(_FORMAT)!r:.50}; this release reads format {FORMAT}"
        )
    key_id, salt = first.get(_KEY), first.get(_SALT)
    chunks: list[bytes] = []
    for number in range(len(segment.items) - 1):
        chunk = segment.items.get(_numbered(number), {})
        data = chunk.get(_DATA)
        if not isinstance(data, bytes) or len(chunk) != 1:
            break
        chunks.append(data)
    else:
        if isinstance(key_id, str) and isinstance(salt, bytes) and len(first) == 3 and not segment.deleted and chunks:
            return key_id, salt, chunks
    raise SegmentCorruptError(
        f"{ref!r} is no segment that encryption stored: parts are missing, or are none of its own"
    )
