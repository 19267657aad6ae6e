"""What is refused is named in the error, also where it has no text, and the error is the layer's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dynalayer import Layer, LayerError, MemoryEventLog
from dynalayer.quoting import quoted

ENDLESS = 10**5000  # Python writes no number of more than 4,300 digits


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no comment")


@pytest.fixture
def layer(tmp_path: Path) -> Iterator[Layer]:
    with Layer(table="t", events="memory:", storage=f"local:{tmp_path}") as layer:
        yield layer


def event(**changed: Any) -> list[dict[str, Any]]:
    return [{"type": "PUT", "id": "a", "item": {}, **changed}]


CALLS: dict[str, Callable[[Layer, Any], object]] = {
    "event": lambda layer, odd: layer.set([odd]),
    "events": lambda layer, odd: layer.set(odd),
    "key of an event": lambda layer, odd: layer.set([{**event()[0], odd: 1}]),
    "type": lambda layer, odd: layer.set(event(type=odd)),
    "table": lambda layer, odd: layer.set(event(table=odd)),
    "partition": lambda layer, odd: layer.set(event(partition=odd)),
    "id": lambda layer, odd: layer.set(event(id=odd)),
    "item": lambda layer, odd: layer.set(event(item=odd)),
    "attribute": lambda layer, odd: layer.set(event(item={odd: 1})),
    "value": lambda layer, odd: layer.set(event(item={"a": [odd]})),
    "element of a set": lambda layer, odd: layer.set(event(item={"a": {odd}})),
    "item taken over": lambda layer, odd: layer.import_snapshot("a", [odd]),
    "partition taken over": lambda layer, odd: layer.import_snapshot(odd, []),
    "partition read": lambda layer, odd: layer.get(odd),
    "moment": lambda layer, odd: layer.get(at=odd),
    "id of a history": lambda layer, odd: layer.history(id=odd),
    "partition synced": lambda layer, odd: layer.sync(odd),
    "partition explained": lambda layer, odd: layer.explain(odd),
    "columns": lambda layer, odd: layer.scan(columns=odd),
    "column": lambda layer, odd: layer.scan(columns=[odd]),
    "filter": lambda layer, odd: layer.scan(filter=odd),
    "ttl": lambda layer, odd: Layer(table="t", events=MemoryEventLog("t"), storage="local:x", ttl=odd),
    "lease": lambda layer, odd: Layer(table="t", events=MemoryEventLog("t"), storage="local:x", lease=odd),
    "name of a table": lambda layer, odd: Layer(table=odd, events="memory:", storage="local:x"),
    "events of a layer": lambda layer, odd: Layer(table="t", events=odd, storage="local:x"),
    "storage": lambda layer, odd: Layer(table="t", events="memory:", storage=odd),
    "plugin": lambda layer, odd: Layer(table="t", events="memory:", storage="local:x", plugins=[odd]),
    "strategy": lambda layer, odd: Layer(table="t", events="memory:", storage="local:x", sync_strategy=odd),
}


@pytest.mark.parametrize("where", CALLS)
def test_what_cannot_be_shown_is_refused_all_the_same_and_nothing_is_written(layer: Layer, where: str) -> None:
    for odd in (ENDLESS, -ENDLESS, Mute()):
        with pytest.raises(LayerError) as caught:
            CALLS[where](layer, odd)
        assert str(caught.value)
    assert layer.partitions() == []


def test_what_can_be_shown_is_shown_cut_short() -> None:
    assert quoted("a") == "'a'"
    assert quoted("a" * 200) == "'" + "a" * 99
    assert quoted([1, 2], 3) == "[1,"
    assert quoted(ENDLESS) == "<int that cannot be shown>"
