"""Bytes as they are stored: one that says how, four of a checksum, and what is packed, compressed when it pays."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import zstandard

__all__ = ["decompressed", "decompressing", "frame", "unframe"]

_PLAIN, _ZSTD = b"J", b"Z"
_HEADER = 5
_SLICE = 1024  # bytes of a frame; at worst four bytes unpack to 128 KB
_WORTH_COMPRESSING = 256  # below, zstd's frame eats what it saves


def frame(plain: bytes, *, compress: bool = True) -> bytes:
    """Bytes packed, compressed where that is wanted and pays; `unframe` gives them back."""
    if compress and len(plain) >= _WORTH_COMPRESSING:
        compressed = zstandard.ZstdCompressor(level=3).compress(plain)
        if len(compressed) < len(plain) * 0.9:
            return _framed(_ZSTD, compressed)
    return _framed(_PLAIN, plain)


def _framed(how: bytes, body: bytes) -> bytes:
    return how + zlib.crc32(body).to_bytes(4, "big") + body


def unframe(packed: bytes, limit: int) -> bytes:
    """What `frame` packed.

    Args:
        packed: The bytes.
        limit: Bytes unpacked above which they are refused, so that rotten bytes cannot fill the memory.

    Raises:
        ValueError: They are rotten, or nothing that `frame` made.
    """
    how, body = packed[:1], packed[_HEADER:]
    if packed != _framed(how, body):
        raise ValueError("it does not match its checksum")
    if how == _PLAIN:
        return body
    if how != _ZSTD:
        raise ValueError(f"an unknown packing {how!r}")
    try:
        size = zstandard.frame_content_size(body)
        if not 0 <= size <= limit:
            raise ValueError(f"a record of {size} bytes; at most {limit} are possible")
        unpacked = decompressed(body, size)
    except zstandard.ZstdError as error:
        raise ValueError(f"no zstd frame: {error}") from error
    if unpacked is None:
        raise ValueError("a record of more bytes than it claims")
    return unpacked


def decompressed(data: bytes, limit: float) -> bytes | None:
    """The content of one whole zstd frame; None where it is larger than a limit.

    Raises:
        ValueError: It is truncated, or other bytes follow.
        ZstdError: It is no frame.
    """
    parts: list[bytes] = []
    size = 0
    for part in decompressing(data):
        parts.append(part)
        size += len(part)
        if size > limit:
            return None
    return b"".join(parts)


def decompressing(data: bytes) -> Iterator[bytes]:
    """The content of one whole zstd frame in parts of at most some 32 MB, whatever size a rotten header claims.

    Raises:
        ValueError: It is truncated, or other bytes follow.
        ZstdError: It is no frame.
    """
    stream = zstandard.ZstdDecompressor().decompressobj()
    for start in range(0, len(data), _SLICE):
        if stream.eof:
            raise ValueError("bytes follow its end")
        yield stream.decompress(data[start : start + _SLICE])
    if not stream.eof:
        raise ValueError("it is truncated")
    if stream.unused_data:
        raise ValueError("bytes follow its end")
