"""The options of `Layer` as a type, for who passes them on. A test holds it to the signature."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from dynalayer.appending import TTL
from dynalayer.clock import Clock
from dynalayer.eventlog.base import EventLog
from dynalayer.events import ItemFunction
from dynalayer.opening import StorageOption
from dynalayer.options import HistoryOption, RunnerOption, StrategyOption
from dynalayer.pairs import Getter, Setter

__all__ = ["LayerOptions"]


class LayerOptions(TypedDict, total=False):
    """`Layer` says what they mean."""

    table: str
    get_item_unique_identifier: ItemFunction | None
    get_item_partition: ItemFunction | None
    events: str | EventLog | None
    storage: StorageOption | Sequence[StorageOption] | None
    getter: Getter | None
    setter: Setter | None
    sync_strategy: StrategyOption | Sequence[StrategyOption]
    background_runner: RunnerOption
    ttl: TTL
    history: HistoryOption
    plugins: Iterable[object]
    lease: float
    cache_bytes: int
    clock: Clock
