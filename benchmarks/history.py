"""What history that is kept for ever takes in storage, beside what it would take in the event log.

Run with `python benchmarks/history.py`. Bytes are counted, not estimated. Prices are those of US East (N. Virginia),
per GB and month, as their pages tell them: DynamoDB's standard table class, and S3 Standard.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from dynalayer import Layer, SQLiteEventLog

DYNAMODB = 0.25  # aws.amazon.com/dynamodb/pricing/on-demand
S3 = 0.023  # aws.amazon.com/s3/pricing
CUT = Path(__file__).parents[1] / "tests" / "data" / "git-events.cut.jsonl.gz"
ROW = 230  # bytes that a record of the log takes in DynamoDB besides its payload: keys, nonce, totals, cursor, ttl


def users() -> Iterator[list[dict[str, Any]]]:
    """Single changes of items of 300 bytes, ten to a sync."""
    for number in range(3000):
        item = {
            "id": f"user-{number * 7919 % 500:05d}",
            "state": ["new", "active", "gone"][number % 3],
            "visits": number,
            "score": number * 0.37,
            "address": {"street": f"{number * 31 % 997} Some Street", "zip": f"{number * 17 % 99_999:05d}"},
            "note": sha256(str(number).encode()).hexdigest() * 2,  # hardly to be compressed
        }
        yield [{"type": "UPDATE", "item": item}]


def commits() -> Iterator[list[dict[str, Any]]]:
    """A real project's changes of files, up to 50 at once."""
    with gzip.open(CUT) as file:
        events = [json.loads(line) for line in file]
    for start in range(0, len(events), 50):
        part = events[start : start + 50]
        yield [{"type": event["type"], "item": {**event["item"], "id": event["item"]["path"]}} for event in part]


def measure(what: str, batches: Sequence[list[dict[str, Any]]], every: int, scheme: str) -> None:
    """Keep some changes, and print what that takes."""
    with tempfile.TemporaryDirectory() as folder:
        options: dict[str, Any] = {"table": "kept", "get_item_unique_identifier": "id", "history": "forever"}
        events, storage = f"sqlite:///{folder}/events.db", f"{scheme}:{folder}/snapshots"
        with Layer(events=events, storage=storage, **options) as layer:
            for number, batch in enumerate(batches, 1):
                layer.set(batch)
                if number % every == 0:
                    layer.sync()
            layer.sync()
            count = layer.meta("").synced_total
        paths = {path.name: path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()}
        with SQLiteEventLog(f"{folder}/events.db", "kept") as log:
            history = [old.segment for old in log.old_segments("") if old.segment.kind == "history"]
            appended = log.head("").bytes_total + ROW * len(batches)
    kept, logged = sum(paths[each.ref] for each in history) / count, appended / count
    print(
        f"{what:30} {scheme:12} {count:,} events in {len(history)} segments: {kept:.0f} bytes an event on S3,"
        f" {logged:.0f} in DynamoDB; a million a month: {kept * S3 / 10:.2f} and {logged * DYNAMODB / 10:.2f} US cents"
    )


def main() -> None:
    """Print all of it."""
    for scheme in ("local", "parquet+file"):
        measure("users, 300 bytes, ten a sync", list(users()), 10, scheme)
        measure("git's changes, 50 a sync", list(commits()), 1, scheme)


if __name__ == "__main__":
    main()
