"""Strategies made of strategies: any of them, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Literal

from dynalayer import ConfigurationError, LayerMeta, PartitionMeta, hookimpl, load_plugin, load_strategy
from dynalayer_strategies.checks import Answer

__all__ = ["AllOfStrategy", "AnyOfStrategy"]

_LEVELS = 8
_STRATEGIES = 100

_Strategy = Callable[[LayerMeta, PartitionMeta], Literal[True, False, "partition"]]

_level: ContextVar[int] = ContextVar("level", default=0)


class _Combined:
    """Strategies, made and counted: a list may hold itself, and what asks them has a stack of its own."""

    name = "combined"

    def __init__(self, strategies: Sequence[object], *, table: str = "") -> None:
        if not isinstance(strategies, list | tuple) or not strategies:
            raise ConfigurationError(f"strategy {self.name!r} is made of a list of strategies, one at least")
        self.size, self.levels = 0, 1
        self._check(_level.get() + 1)
        token = _level.set(_level.get() + 1)
        try:
            self._strategies = [self._made(each, table) for each in strategies]
        finally:
            _level.reset(token)

    def _made(self, given: object, table: str) -> _Strategy:
        strategy = load_plugin(given, table=table, what=self.name) if isinstance(given, str | Mapping) else given
        self.size += 1
        if isinstance(strategy, _Combined):
            self.size += strategy.size
            self.levels = max(self.levels, 1 + strategy.levels)
        self._check(self.levels)
        return load_strategy(strategy, table=table)

    def _check(self, levels: int) -> None:
        if levels > _LEVELS or self.size > _STRATEGIES:
            raise ConfigurationError(
                f"strategy {self.name!r} is nested deeper than {_LEVELS} levels or holds more than {_STRATEGIES}"
            )


class AnyOfStrategy(_Combined):
    """Syncs when any of its strategies says so; all that is pending, if one of them says that.

    Args:
        strategies: Functions, plugins, and names with settings, as the layer's option `sync_strategy` takes them. Of a
            plugin its strategy alone is asked. At most 100, nested at most 8 levels deep.
        table: The layer's table, for those that want it.

    Raises:
        ConfigurationError: One is no strategy, or they are too many or too deep.
        PluginError: One is not installed, cannot be loaded, or does not fit.
    """

    name = "any-of"

    @hookimpl
    def layer_strategy(self, meta: LayerMeta, partition_meta: PartitionMeta) -> Answer:
        """See `HookSpecs.layer_strategy`."""
        said = [strategy(meta, partition_meta) for strategy in self._strategies]
        return True if True in said else "partition" if "partition" in said else None


class AllOfStrategy(_Combined):
    """Syncs when all of its strategies say so; the partition that was written, if one of them says no more than that.

    Args:
        strategies: As those of `AnyOfStrategy`. They are asked in order, up to the first that says no.
        table: The layer's table, for those that want it.

    Raises:
        ConfigurationError: One is no strategy, or they are too many or too deep.
        PluginError: One is not installed, cannot be loaded, or does not fit.
    """

    name = "all-of"

    @hookimpl
    def layer_strategy(self, meta: LayerMeta, partition_meta: PartitionMeta) -> Answer:
        """See `HookSpecs.layer_strategy`."""
        answer: Answer = True
        for strategy in self._strategies:
            said = strategy(meta, partition_meta)
            if said is False:
                return None
            answer = answer if said is True else said
        return answer
