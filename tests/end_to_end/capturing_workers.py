"""What the processes of `test_captured_writes.py` run: `capturing_workers.py KIND FOLDER URL EVENTS TABLE NAME SEED`.

They end only by being killed, or when whoever started them is gone. What a service put off they leave, and go on.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import boto3

from dynalayer import AppendError, BatchError, CapturedTable, Item, Layer, LayerError

PARTITIONS = ("north", "south")
COUNTERS = ("c0", "c1")
LEASE = 1.0  # short, so that what the dead hold stalls nobody
LIFETIME = 300


def open_layer(folder: Path, url: str, events: str, table: str) -> Layer:
    for _ in range(30):
        try:
            return Layer(
                table=table,
                get_item_unique_identifier="id",
                get_item_partition="partition",
                events=f"dynamodb://{events}?endpoint_url={url}",
                storage=f"local://{folder / 'snapshots'}",
                lease=LEASE,
            )
        except LayerError as error:
            if not error.retryable:
                raise
    raise TimeoutError("the layer cannot be opened")


def open_table(layer: Layer, url: str) -> CapturedTable:
    table = boto3.resource("dynamodb", endpoint_url=url).Table(layer.table_name)
    for _ in range(30):
        try:
            return layer.table(table)
        except LayerError as error:
            if not error.retryable:
                raise
    raise TimeoutError("the table cannot be described")


class Writer:
    """Puts and deletes items of its own, counts in items of all, and sets events of items that no table has."""

    def __init__(self, layer: Layer, table: CapturedTable, folder: Path, name: str, rng: random.Random) -> None:
        self._layer = layer
        self._table = table
        self._name = name
        self._random = rng
        self._sequence = 0
        self._told = os.open(folder / f"{name}.told", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._own: list[Item] = []

    def turn(self) -> None:
        """One write; what became of it is told in the file once it is known."""
        self._sequence += 1
        token = f"{self._name}/{os.getpid()}/{self._sequence}"
        kind = self._random.choices(("put", "count", "delete", "batch", "set"), (4, 4, 1, 2, 1))[0]
        self._tell(f"begun {kind} {token}")
        try:
            getattr(self, f"_{kind}")(token)
        except (AppendError, BatchError) as error:
            outcomes = error.outcomes.values() if isinstance(error, AppendError) else [_outcome_of(error)]
            self._tell(f"{'unknown' if set(outcomes) != {'not written'} else 'refused'} {kind} {token}")
        except LayerError as error:
            if not error.retryable:
                raise
            self._tell(f"refused {kind} {token}")
        else:
            self._tell(f"written {kind} {token}")

    def _tell(self, text: str) -> None:
        """Add a line by one write: what is there was told before the process died."""
        os.write(self._told, f"{text}\n".encode())

    def _item(self, token: str) -> Item:
        return {"partition": self._random.choice(PARTITIONS), "id": token, "token": token}

    def _put(self, token: str) -> None:
        item = self._item(token)
        self._table.put_item(Item=item)
        self._own.append(item)

    def _count(self, token: str) -> None:
        key = {"partition": self._random.choice(PARTITIONS), "id": self._random.choice(COUNTERS)}
        self._table.update_item(
            Key=key,
            UpdateExpression="ADD n :one SET #token = :token",
            ExpressionAttributeNames={"#token": "token"},
            ExpressionAttributeValues={":one": 1, ":token": token},
        )

    def _delete(self, _: str) -> None:
        if self._own:
            item = self._own.pop(self._random.randrange(len(self._own)))
            self._table.delete_item(Key={"partition": item["partition"], "id": item["id"]})

    def _batch(self, token: str) -> None:
        with self._table.batch_writer(actions=10) as batch:
            for number in range(4):
                batch.put_item(Item=self._item(f"{token}/{number}"))

    def _set(self, token: str) -> None:
        item = self._item(token)
        self._layer.set([{"type": "PUT", "item": {**item, "id": f"set/{token}"}}])


def _outcome_of(error: BatchError) -> str:
    return "unknown" if error.written or error.unknown else "not written"


def main(kind: str, folder: str, url: str, events: str, table: str, name: str, seed: str) -> None:
    rng = random.Random(f"{seed} {name} {os.getpid()}")
    layer = open_layer(Path(folder), url, events, table)
    worker: Any = None
    if kind == "writer":
        worker = Writer(layer, open_table(layer, url), Path(folder), name, rng)
    parent, end = os.getppid(), time.monotonic() + LIFETIME
    while os.getppid() == parent and time.monotonic() < end:
        if worker is not None:
            worker.turn()
            continue
        try:
            layer.sync()
        except LayerError as error:
            if not error.retryable:
                raise
        time.sleep(rng.uniform(0, 0.2))


if __name__ == "__main__":
    main(*sys.argv[1:])
