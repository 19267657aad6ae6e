"""The wrappers in every order around local files: a stack keeps every promise of an adapter."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest

from dynalayer.opening import StorageOption
from dynalayer.testing import AdapterConformance, Place, RawFolder
from dynalayer.testing.adapters.columns import ColumnPromises
from dynalayer_local import LocalAdapter
from dynalayer_parquet import ParquetAdapter

KEY = bytes(range(32))

WRAPPERS: dict[str, Callable[[Path], StorageOption]] = {
    "cache": lambda path: f"cache:{path / 'cache'}?max_bytes=8388608",
    "encryption": lambda path: {"use": "encryption", "key": lambda key_id: (key_id or "k1", KEY)},
    "retry": lambda path: {"use": "retry", "attempts": 3, "first": 0.001, "longest": 0.01},
}
STACKS = [*permutations(WRAPPERS, 2), ("retry", "cache", "encryption")]


@pytest.mark.parametrize("stack", STACKS, ids="-".join)
class TestStack(AdapterConformance):
    large_bytes = 600_000  # several chunks
    many = 12
    racers = 3
    rounds = 2
    crash_points = ("before layer_setter", "after layer_setter", "after move_head", "before layer_getter")

    @pytest.fixture
    def place(self, tmp_path: Path, stack: tuple[str, ...]) -> Place:
        return Place(
            open=lambda table: LocalAdapter(tmp_path / "store" / table),
            raw=RawFolder(tmp_path / "store"),
            wrap=[WRAPPERS[name](tmp_path) for name in stack],
            secrets=[repr(KEY), KEY.hex(), b64encode(KEY).decode()],
            copies="cache" in stack,
        )


class TestByColumns(ColumnPromises):
    """Of the wrappers that pass columns on."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(
            open=lambda table: ParquetAdapter(f"file://{tmp_path / 'store'}", table),
            raw=RawFolder(tmp_path / "store"),
            wrap=[WRAPPERS["retry"](tmp_path), WRAPPERS["cache"](tmp_path)],
            copies=True,
        )
