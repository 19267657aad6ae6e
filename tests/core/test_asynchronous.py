"""A function that is asynchronous where a plain one is called does nothing: that is told, never taken for done."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from dynalayer import ConfigurationError, Layer, LayerError
from fakes import put

TOLD = "is an async function"


async def asynchronous(*_: Any) -> bool:
    return True


def layer_of(tmp_path: Path, **options: Any) -> Layer:
    place: dict[str, Any] = {} if "setter" in options else {"storage": f"local:{tmp_path / 'snapshots'}"}
    return Layer(table="users", events="memory:", get_item_unique_identifier="id", **place, **options)


@pytest.mark.parametrize("setter", [asynchronous, lambda partition, items: asynchronous()])
def test_what_an_asynchronous_setter_did_not_store_stays_pending(tmp_path: Path, setter: Any) -> None:
    with layer_of(tmp_path, getter=lambda partition: [], setter=setter) as layer:
        layer.set([put("a")])
        with pytest.raises(LayerError, match=TOLD):
            layer.sync()
        assert layer.meta().unsynced_total == 1
        assert [item["id"] for item in layer.get()] == ["a"]


@pytest.mark.parametrize("option", ["sync_strategy", "background_runner"])
def test_an_asynchronous_strategy_or_runner_is_told_as_what_failed(
    tmp_path: Path, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"sync_strategy": lambda meta: True, option: asynchronous}
    with caplog.at_level(logging.CRITICAL), layer_of(tmp_path, **options) as layer:
        layer.set([put("a")])
        meta = layer.meta()
        assert meta.error is not None
        assert TOLD in meta.error
        assert meta.unsynced_total == 1


def test_an_asynchronous_on_reset_is_told_and_the_reset_is_told_again(tmp_path: Path) -> None:
    with layer_of(tmp_path) as layer:
        layer.import_snapshot("", [{"id": "a"}])
        with pytest.raises(ConfigurationError, match="on_reset " + TOLD):
            list(layer.follow("index", wait=False, on_reset=asynchronous))
        seen: list[tuple[str, int]] = []
        list(layer.follow("index", wait=False, on_reset=lambda *reset: seen.append(reset)))
        assert seen == [("", 1)]


def test_an_asynchronous_progress_ends_the_reset_before_anything_is_changed(tmp_path: Path) -> None:
    with layer_of(tmp_path) as layer:
        layer.set([put("a")])
        with pytest.raises(ConfigurationError, match="progress " + TOLD):
            layer.reset([{"id": "b"}], progress=asynchronous)
        assert [item["id"] for item in layer.get()] == ["a"]
