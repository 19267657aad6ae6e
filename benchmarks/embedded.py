"""What the embedded layer costs, as ratios against baselines measured in the same run.

Run with `make bench`. Absolute times are this machine's; the ratios are what to compare.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dynalayer import Layer

ITEMS = 100_000
BATCH = 100
RUNS = 3


def item(number: int) -> dict[str, Any]:
    """An item of about 300 bytes of JSON."""
    return {
        "sk": f"user-{number:07d}",
        "state": "active",
        "name": "Some Name " * 8,
        "score": number * 0.5,
        "visits": number,
        "tags": ["a", "b", "c"],
        "address": {"street": "x" * 80, "zip": "12345"},
        "verified": True,
    }


def seconds(job: Callable[[], object], runs: int = RUNS) -> float:
    """The median of several runs."""
    took = []
    for _ in range(runs):
        begun = time.perf_counter()
        job()
        took.append(time.perf_counter() - begun)
    return statistics.median(took)


def report(what: str, took: float, baseline: str, reference: float) -> None:
    """Print one row."""
    print(f"{what:44} {took * 1000:10.2f} ms   {took / reference:8.3f} x {baseline} ({reference * 1000:.2f} ms)")


def open_layer(folder: Path) -> Layer:
    """The embedded layer, below a folder."""
    return Layer(
        table="users",
        get_item_unique_identifier="sk",
        events=f"sqlite:///{folder}/events.db",
        storage=f"local:{folder}/snapshots",
    )


def plain_inserts(folder: Path, events: list[dict[str, Any]]) -> float:
    """The baseline of an append: the same events as rows of a table, a durable transaction a batch."""
    db = sqlite3.connect(folder / "plain.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE items (id TEXT PRIMARY KEY, body TEXT)")

    def insert() -> None:
        for start in range(0, len(events), BATCH):
            batch = events[start : start + BATCH]
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT OR REPLACE INTO items VALUES (?, ?)",
                [(event["item"]["sk"], json.dumps(event["item"])) for event in batch],
            )
            db.execute("COMMIT")

    took = seconds(insert, runs=1)
    db.close()
    return took


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="dynalayer-bench-") as name:
        folder = Path(name)
        events = [{"type": "PUT", "item": item(number)} for number in range(ITEMS)]
        with open_layer(folder) as layer:

            def append() -> None:
                for start in range(0, ITEMS, BATCH):
                    layer.set(events[start : start + BATCH])

            appended = seconds(append, runs=1)
            report(f"append {ITEMS:,} events, {BATCH} a set()", appended, "plain rows", plain_inserts(folder, events))
            folded = seconds(layer.sync, runs=1)
            report(f"sync {ITEMS:,} events into a base", folded, "appending them", appended)

            plain = folder / "plain.json"
            plain.write_text(json.dumps([event["item"] for event in events]))
            parsed = seconds(lambda: json.loads(plain.read_bytes()))

            def cold() -> None:
                with open_layer(folder) as other:
                    other.get()

            report(f"cold get of {ITEMS:,} items", seconds(cold), "json.loads of them", parsed)
            layer.get()
            report(f"warm get of {ITEMS:,} items", seconds(layer.get), "json.loads of them", parsed)
            told = seconds(layer.history, runs=1)
            report(f"history of {ITEMS:,} events", told, "json.loads of them", parsed)

            def follow() -> None:
                for _ in layer.follow("bench", wait=False):
                    pass

            report(f"follow {ITEMS:,} events", seconds(follow, runs=1), "their history()", told)

            def reset() -> None:
                layer.reset(lambda: (event["item"] for event in events))

            report(f"reset of {ITEMS:,} items", seconds(reset, runs=1), "the first sync", folded)

            def change() -> None:
                layer.set(events[:1])
                layer.sync()

            report(f"set and sync one change among {ITEMS:,}", seconds(change, runs=21), "the first sync", folded)


if __name__ == "__main__":
    main()
