"""A segment's bytes, sealed: AES-256-GCM in chunks, under a key that no other segment has.

The key of a segment comes by HKDF-SHA256 from the user's key and 32 random bytes that are kept beside it. Its chunks
are numbered in their nonces, the last one marked: the construction STREAM of Hoang, Reyhanitabar, Rogaway and Vizár
(2015). So no nonce is ever used twice under a key, none has to be random, and a chunk that is changed, moved, left out,
taken from elsewhere, or cut off at the end does not open. Where a segment belongs is bound in as associated data.

Bounds: of 2**64 segments under a user's key two have the same salt by a chance of 2**-129; a segment may have 2**32
chunks, which is 1 PiB; a chunk is far below the 64 GiB of one message of GCM.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dynalayer import SegmentHeader

__all__ = ["CHUNK", "FORMAT", "SALT_BYTES", "Unopened", "chunks_of", "opened", "sealed"]

FORMAT = 1
"""Version of the construction."""

SALT_BYTES = 32

CHUNK = 256 * 1024
"""Bytes of a chunk: written as base64 it is below what an item of DynamoDB may have, which stores of items hold to."""

_MOST_CHUNKS = 2**32
_PURPOSE = b"dynalayer encryption, format 1: key of a segment"


class Unopened(Exception):  # noqa: N818 -- no error that leaves the package
    """A chunk does not open: another key, other bytes, another place."""


def chunks_of(data: bytes, *, but: int) -> list[bytes]:
    """Data cut into chunks, at least one; their number is never the one excepted.

    Args:
        data: At least two bytes.
        but: Not so many.
    """
    chunks = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
    if len(chunks) == but:
        middle = len(chunks[0]) // 2
        chunks[:1] = [chunks[0][:middle], chunks[0][middle:]]
    return chunks


def sealed(chunks: Sequence[bytes], key: bytes, *, key_id: str, salt: bytes, header: SegmentHeader) -> Iterator[bytes]:
    """Chunks as they are kept, in order."""
    cipher, bound = _cipher(key, salt), _bound(key_id, salt, header)
    for nonce, chunk in zip(_nonces(len(chunks)), chunks, strict=True):
        yield cipher.encrypt(nonce, chunk, bound)


def opened(chunks: Sequence[bytes], key: bytes, *, key_id: str, salt: bytes, header: SegmentHeader) -> bytes:
    """What was sealed.

    Raises:
        Unopened: It is not, or not all of it, what was sealed under this key for this segment.
    """
    cipher, bound = _cipher(key, salt), _bound(key_id, salt, header)
    plain = bytearray()
    try:
        for nonce, chunk in zip(_nonces(len(chunks)), chunks, strict=True):
            plain += cipher.decrypt(nonce, chunk, bound)
    except InvalidTag:
        raise Unopened from None
    return bytes(plain)


def _cipher(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=_PURPOSE).derive(key))


def _nonces(count: int) -> Iterable[bytes]:
    if count > _MOST_CHUNKS:
        raise ValueError(f"{count} chunks; at most {_MOST_CHUNKS} are sealed under one key")
    return (number.to_bytes(11, "big") + bytes([number == count - 1]) for number in range(count))


def _bound(key_id: str, salt: bytes, header: SegmentHeader) -> bytes:
    """What a chunk is bound to. As JSON: no two of these lists come to the same bytes."""
    return orjson.dumps(
        [
            FORMAT,
            key_id,
            salt.hex(),
            header.table,
            header.partition,
            header.origin,
            header.kind,
            header.from_version,
            header.to_version,
            header.name,
        ]
    )
