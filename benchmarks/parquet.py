"""What a compaction costs in Arrow: 10,000 changes into 1,000,000 items, beside the same through Python's dicts.

Run with `make bench-parquet`. Each way runs in a process of its own, so that its memory is its own; the baseline is
pyarrow's plain copy of the base, read and written as one table in the same run.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from dynalayer import Segment, SegmentHeader
from dynalayer.columns import ID, Newest
from dynalayer.fold import apply_segment
from dynalayer_parquet import ParquetAdapter

ITEMS = 1_000_000
CHANGES = 10_000
RUNS = 3
ORIGIN = "0" * 16
BASE, DELTA = f"{1:020d}-base-{ORIGIN}-{1:016x}", f"{2:020d}-delta-{ORIGIN}-{2:016x}"
MERGED = SegmentHeader("users", "all", ORIGIN, "base", 0, 2, f"{2:020d}-base-{ORIGIN}-{3:016x}")


def item(number: int) -> dict[str, Any]:
    """An item of six attributes."""
    return {
        "pk": "users",
        "sk": f"user-{number:08d}",
        "state": ("active", "gone", "new")[number % 3],
        "age": number % 90,
        "score": number / 7,
        "email": f"u{number}@example.org",
    }


def adapter_in(folder: Path) -> ParquetAdapter:
    """The adapter, in local files."""
    return ParquetAdapter(f"file://{folder}", "users")


def prepare(folder: Path) -> None:
    """Store a base, and a delta of changed, new and deleted items spread over all of it."""
    adapter = adapter_in(folder)
    items = {f"user-{number:08d}": item(number) for number in range(0, 2 * ITEMS, 2)}
    adapter.layer_setter("all", Segment("users", "all", ORIGIN, "base", 0, 1, items, name=BASE))
    step = 2 * ITEMS // CHANGES
    numbers = range(0, 2 * ITEMS, step)
    changed = {f"user-{number + number // step % 2:08d}": item(number + 1) for number in numbers[CHANGES // 10 :]}
    deleted = frozenset(f"user-{number:08d}" for number in numbers[: CHANGES // 10])
    adapter.layer_setter("all", Segment("users", "all", ORIGIN, "delta", 1, 2, changed, deleted, name=DELTA))


def columns(folder: Path) -> None:
    """As a compaction does it."""
    adapter = adapter_in(folder)
    sources = [adapter.layer_columns("all", f"{name}.parquet") for name in (BASE, DELTA)]
    adapter.layer_columns_setter("all", Newest(MERGED, sources))


def dicts(folder: Path) -> None:
    """As adapters without columns do it."""
    adapter = adapter_in(folder)
    items: dict[str, Any] = {}
    for name in (BASE, DELTA):
        apply_segment(items, adapter.layer_getter("all", f"{name}.parquet"))
    adapter.layer_setter("all", Segment("users", "all", ORIGIN, "base", 0, 2, items, name=MERGED.name))


def copy(folder: Path) -> None:
    """The baseline."""
    path = folder / "users" / "all" / f"{BASE}.parquet"
    pq.write_table(pq.read_table(path), folder / "copy.parquet", compression="zstd", compression_level=1)


def scan(folder: Path) -> None:
    """One column of all rows, and the rows of a filter."""
    opened = adapter_in(folder).layer_columns("all", f"{BASE}.parquet")
    assert sum(len(batch) for batch in opened.batches(["age"])) == ITEMS  # noqa: S101 -- a figure of wrong rows is none
    wanted = pc.field(ID) == "user-00001000"
    found = sum(len(batch.filter(wanted)) for batch in opened.batches([ID, "email"], wanted))
    assert found == 1  # noqa: S101 -- likewise


WAYS = {"prepare": prepare, "columns": columns, "dicts": dicts, "copy": copy, "scan": scan}


def measured(way: str, folder: Path) -> tuple[float, float]:
    """Seconds and megabytes at most that a way takes, in a process of its own; the median of several."""
    runs = []
    for _ in range(RUNS if way != "prepare" else 1):
        done = subprocess.run([sys.executable, __file__, way, str(folder)], capture_output=True, text=True, check=True)
        took, peak = done.stdout.split()
        runs.append((float(took), float(peak)))
    return sorted(runs)[len(runs) // 2]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="dynalayer-bench-") as name:
        folder = Path(name)
        measured("prepare", folder)
        reference, _ = measured("copy", folder)
        print(f"pyarrow reads and writes {ITEMS:,} items: {reference:.2f} s")
        for way, what in (
            ("columns", f"{CHANGES:,} changes into {ITEMS:,} items, in Arrow"),
            ("dicts", f"{CHANGES:,} changes into {ITEMS:,} items, as dicts"),
            ("scan", f"one column of {ITEMS:,} items, and one item by a filter"),
        ):
            took, peak = measured(way, folder)
            print(f"{what:56} {took:7.2f} s  {took / reference:6.2f} x that copy  {peak:6.0f} MB at most")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        begun = time.perf_counter()
        WAYS[sys.argv[1]](Path(sys.argv[2]))
        print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
