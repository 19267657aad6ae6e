"""Valid bytes made invalid as rot, cuts and slips make them, and a bound on the memory that reading them takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, whole: bytes, *, times: int = 3) -> bytes:
    """The bytes after one to a few mutations, each anywhere; perhaps the same."""
    data = whole
    for _ in range(draw(st.integers(1, times))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 1, 2, 8, 64, 4096])))
        match draw(st.sampled_from(["flip", "cut", "drop", "insert", "repeat", "move", "zero"])):
            case "flip" if start < len(data):
                data = data[:start] + bytes([data[start] ^ (1 << draw(st.integers(0, 7)))]) + data[start + 1 :]
            case "cut":
                data = data[:start]
            case "drop":
                data = data[:start] + data[end:]
            case "insert":
                data = data[:start] + draw(st.binary(min_size=1, max_size=8)) + data[start:]
            case "repeat":
                data = data[:end] + data[start:end] * draw(st.sampled_from([1, 2, 50])) + data[end:]
            case "move":  # a part of it where another belongs
                part = data[start:end]
                at = draw(st.integers(0, len(data)))
                data = data[:at] + part + data[at + len(part) :]
            case "zero":
                data = data[:start] + bytes(end - start) + data[end:]
    return data


@contextmanager
def memory_bounded(most: int) -> Iterator[None]:
    """Python's own memory grows by no more than so many bytes at any moment."""
    running = tracemalloc.is_tracing()
    if not running:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        yield
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        if not running:
            tracemalloc.stop()
    assert peak <= most, f"{peak:,} bytes were allocated, and at most {most:,} are in proportion"
