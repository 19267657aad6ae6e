"""Those who only watch: told what a layer does, and unable to break it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import pluggy

from dynalayer.counting import operation as counted
from dynalayer.errors import LayerError, PluginError
from dynalayer.logs import log_failure
from dynalayer.states import Operation

__all__ = ["Observers"]

T = TypeVar("T")

_UNWATCHED = nullcontext()

# What observers do in these is not watched, and what fails there is not told to them: it would never end.
_INWARD = frozenset({"layer_operation", "layer_failed"})


class Observers:
    """Calls the hooks of those who only watch: what they raise is reported and breaks nothing.

    What is no `Exception`, as KeyboardInterrupt and SystemExit, is meant to end the program: it passes.

    Args:
        manager: The layer's plugin manager.
        table: The layer's table.
    """

    def __init__(self, manager: pluggy.PluginManager, table: str) -> None:
        self._manager = manager
        self._table = table
        self._thread = threading.local()

    def appended(self, events: Sequence[object]) -> None:
        """See `HookSpecs.layer_appended`."""
        self._call("layer_appended", events=events)

    def synced(self, result: object) -> None:
        """See `HookSpecs.layer_synced`."""
        self._call("layer_synced", result=result)

    def failed(self, operation: str, error: Exception) -> None:
        """See `HookSpecs.layer_failed`; always logged as well."""
        self._log("%s failed: %s", operation, error, error=error, operation=operation)
        if not self._inward:
            self._call("layer_failed", operation=operation, error=error)

    def closing(self) -> None:
        """See `HookSpecs.layer_closing`."""
        self._call("layer_closing")

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

    def watched(
        self, name: str, partition: str | None = None, adapter: str | None = None
    ) -> AbstractContextManager[None]:
        """Something that observers are told the begin and the end of."""
        if self._inward or not self._manager.hook.layer_operation.get_hookimpls():
            return _UNWATCHED
        return self._watched(Operation(name, self._table, partition, adapter))

    @contextmanager
    def _watched(self, operation: Operation) -> Iterator[None]:
        with ExitStack() as stack:
            for watcher, context in self._call("layer_operation", operation=operation):
                stack.enter_context(_Guarded(self, watcher, context))
            yield

    def _call(self, hook: str, **arguments: object) -> list[tuple[pluggy.HookImpl, object]]:
        """Call a hook's implementations, each by itself, within all of its wrappers, and give what they answered.

        pluggy's own call would end with the first that raises, and lose what the others answered. Wrappers are shown
        the answers, and what they make of them counts for nothing.
        """
        found = getattr(self._manager.hook, hook).get_hookimpls()
        answers: list[tuple[pluggy.HookImpl, object]] = []
        with ExitStack() as stack:
            for each in reversed(found):  # pluggy's order: wrappers, then the newest plugin
                if each.wrapper or each.hookwrapper:
                    stack.enter_context(self._around(hook, each, arguments, answers))
                    continue
                answer = self.ask(hook, each, partial(_called, each, arguments))
                if answer is not None:
                    answers.append((each, answer))
        return answers

    @contextmanager
    def _around(
        self,
        hook: str,
        wrapper: pluggy.HookImpl,
        arguments: Mapping[str, object],
        answers: Sequence[tuple[pluggy.HookImpl, object]],
    ) -> Iterator[None]:
        generator = self.ask(hook, wrapper, partial(_begun, wrapper, arguments))
        yield
        if generator is not None:
            given = [answer for _, answer in answers]
            self.ask(hook, wrapper, partial(_ended, wrapper, generator, given))

    def ask(self, hook: str, watcher: pluggy.HookImpl, call: Callable[[], T]) -> T | None:
        """Make a call of an observer; where it raises that is reported, and the answer None."""
        outer = self._inward
        self._thread.inward = outer or hook in _INWARD
        try:
            return call()
        except Exception as error:  # noqa: BLE001 -- see the class
            self._thread.inward = outer
            self._broken(hook, watcher, error)
            return None
        finally:
            self._thread.inward = outer

    def _broken(self, hook: str, watcher: pluggy.HookImpl, error: Exception) -> None:
        # Not by the name that it was asked for by: that has its settings, which may be secrets.
        plugin = type(watcher.plugin).__name__
        self._log("%s failed in plugin %s: %s", hook, plugin, error, error=error, operation=hook, plugin=plugin)
        if hook != "layer_failed" and not self._inward:
            self._call("layer_failed", operation=hook, error=error)

    def _log(self, text: str, *arguments: object, error: Exception, **fields: object) -> None:
        log_failure(text, *arguments, error=error, level=logging.ERROR, table=self._table, **fields)

    @property
    def _inward(self) -> bool:
        """Whether this thread is at work for one who watches the layer."""
        return getattr(self._thread, "inward", False)


def _called(watcher: pluggy.HookImpl, arguments: Mapping[str, object]) -> object:
    answer: object = watcher.function(*(arguments[name] for name in watcher.argnames))
    return answer


def _begun(wrapper: pluggy.HookImpl, arguments: Mapping[str, object]) -> Generator[None, object, object]:
    generator: Any = _called(wrapper, arguments)
    next(generator)
    return generator  # type: ignore[no-any-return] # pluggy takes nothing else for a wrapper


def _ended(wrapper: pluggy.HookImpl, generator: Generator[None, object, object], answers: list[object]) -> None:
    try:
        generator.send(pluggy.Result.from_call(lambda: answers) if wrapper.hookwrapper else answers)
    except StopIteration:
        return
    generator.close()
    raise PluginError("a wrapper yields once, and this one did again")


class _Guarded(AbstractContextManager[None]):
    """An observer's context manager: entered and left as any, but what it raises, or would swallow, changes nothing."""

    def __init__(self, observers: Observers, watcher: pluggy.HookImpl, context: object) -> None:
        self._observers = observers
        self._watcher = watcher
        self._context = context
        self._entered = False

    def __enter__(self) -> None:
        self._entered = bool(self._observers.ask("layer_operation", self._watcher, self._enter))

    def _enter(self) -> bool:
        if not isinstance(self._context, AbstractContextManager):
            raise PluginError(f"layer_operation returns a context manager or None, not {type(self._context).__name__}")
        self._context.__enter__()
        return True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._entered:
            self._observers.ask("layer_operation", self._watcher, partial(self._leave, kind, error, traceback))

    def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context: Any = self._context
        try:
            context.__exit__(kind, error, traceback)
        except Exception as raised:
            if raised is not error:
                raise
