"""Bytes as they are stored: one that says how, four of a checksum, and what is packed, compressed when it pays."""

from __future__ import annotations

import zlib

import zstandard

__all__ = ["frame", "unframe"]

_PLAIN, _ZSTD = b"J", b"Z"
_HEADER = 5
_WORTH_COMPRESSING = 256  # below, zstd's frame eats what it saves


def frame(plain: bytes) -> bytes:
    """Bytes packed; `unframe` gives them back."""
    if len(plain) >= _WORTH_COMPRESSING:
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
        # Streaming: it allocates what it really decodes, whatever size a rotten frame header claims.
        stream = zstandard.ZstdDecompressor().decompressobj()
        unpacked = stream.decompress(body)
        if not stream.eof or stream.unused_data:
            raise ValueError("a record that is truncated, or followed by other bytes")
    except zstandard.ZstdError as error:
        raise ValueError(f"no zstd frame: {error}") from error
    return unpacked
