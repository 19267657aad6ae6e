"""Those who only watch: told what a layer does, and unable to break it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType

import pluggy

from dynalayer.counting import operation as counted
from dynalayer.errors import LayerError
from dynalayer.states import Operation

__all__ = ["Observers"]

logger = logging.getLogger("dynalayer")


class Observers:
    """Calls the hooks of those who only watch: what they raise is reported and breaks nothing.

    Args:
        manager: The layer's plugin manager.
        table: The layer's table.
    """

    def __init__(self, manager: pluggy.PluginManager, table: str) -> None:
        self._manager = manager
        self._table = table

    def appended(self, events: Sequence[object]) -> None:
        """See `HookSpecs.layer_appended`."""
        self._call("layer_appended", events=events)

    def synced(self, result: object) -> None:
        """See `HookSpecs.layer_synced`."""
        self._call("layer_synced", result=result)

    def failed(self, operation: str, error: Exception) -> None:
        """See `HookSpecs.layer_failed`; always logged as well."""
        logger.error("%s failed: %s", operation, error, exc_info=error)
        self._call("layer_failed", operation=operation, error=error)

    def closed(self) -> None:
        """See `HookSpecs.layer_closed`."""
        self._call("layer_closed")

    @contextmanager
    def running(self, name: str, partition: str | None = None) -> Iterator[None]:
        """An operation of the layer: what is requested inside counts under its name, its errors name it.

        See `HookSpecs.layer_operation`.
        """
        with counted(name), self.watched(name, partition):
            try:
                yield
            except LayerError as error:
                error.within(operation=name, partition=partition)
                raise

    @contextmanager
    def watched(self, name: str, partition: str | None = None, adapter: str | None = None) -> Iterator[None]:
        """Something that observers are told the begin and the end of."""
        if not self._manager.hook.layer_operation.get_hookimpls():
            yield
            return
        operation = Operation(name, self._table, partition, adapter)
        with ExitStack() as stack:
            for context in self._call("layer_operation", operation=operation):
                stack.enter_context(_Guarded(context, self))
            yield

    def _call(self, hook: str, **arguments: object) -> list[object]:
        """Call each plugin's method by itself, with all wrappers around it: one that raises stops no other."""
        found = getattr(self._manager.hook, hook).get_hookimpls()
        watchers = [each.plugin for each in found if not (each.wrapper or each.hookwrapper)]
        answers: list[object] = []
        for watcher in reversed(watchers):
            others = [each for each in watchers if each is not watcher]
            try:
                answers += self._manager.subset_hook_caller(hook, others)(**arguments)
            except Exception as error:  # noqa: BLE001 -- see the class
                self.broken(hook, error)
        return answers

    def broken(self, hook: str, error: Exception) -> None:
        """Report what an observer raised."""
        if hook == "layer_failed":
            logger.error("a plugin's %s failed", hook, exc_info=error)
        else:
            self.failed(hook, error)


class _Guarded(AbstractContextManager[None]):
    """An observer's context manager: entered and left as any, but what it raises, or would swallow, changes nothing."""

    def __init__(self, context: object, observers: Observers) -> None:
        self._context = context
        self._observers = observers
        self._entered = False

    def __enter__(self) -> None:
        try:
            self._context.__enter__()  # type: ignore[attr-defined] # one that has none is reported like any failure
            self._entered = True
        except Exception as error:  # noqa: BLE001 -- see the class
            self._observers.broken("layer_operation", error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._entered:
            return
        try:
            self._context.__exit__(kind, error, traceback)  # type: ignore[attr-defined] # it was entered
        except Exception as raised:  # noqa: BLE001 -- see the class
            if raised is not error:
                self._observers.broken("layer_operation", raised)
