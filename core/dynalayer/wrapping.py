"""An adapter around another: what wrappers are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dynalayer.hookspecs import Adapter, hookimpl
from dynalayer.segments import Segment
from dynalayer.values import Item

if TYPE_CHECKING:  # it needs pyarrow, which is an extra
    from dynalayer.columns import Columns

__all__ = ["WrappedAdapter"]

P = ParamSpec("P")
T = TypeVar("T")


class WrappedAdapter:
    """An adapter around another, with its name and capabilities; every hook is called by `through`.

    Override `through` for what concerns every call, or one of the hooks, marked with `hookimpl` again.

    Args:
        inner: The adapter that does the work.

    Attributes:
        inner: Likewise; wrappers further out see by it what they stand around.
    """

    def __init__(self, inner: Adapter) -> None:
        self.inner = inner
        self.name = inner.name
        self.capabilities = inner.capabilities

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG002 -- for subclasses
        """Make the call of a hook, by whose name it is known, and return its answer."""
        return call(*args, **kwargs)

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """See `HookSpecs`."""
        return self.through("layer_setter", self.inner.layer_setter, partition=partition, segment=segment)

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """See `HookSpecs`."""
        return self.through("layer_getter", self.inner.layer_getter, partition=partition, ref=ref)

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        """See `HookSpecs`."""
        return self.through("layer_discard", self.inner.layer_discard, partition=partition, ref=ref)

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        """See `HookSpecs`."""
        return self.through("layer_list", self.inner.layer_list, partition=partition)

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str | None:
        """See `HookSpecs`. Called only where the inner adapter has columns."""
        setter: Callable[..., str | None] = _of(self.inner, "layer_columns_setter")
        return self.through("layer_columns_setter", setter, partition=partition, columns=columns)

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns | None:
        """See `HookSpecs`. Called only where the inner adapter has columns."""
        opener: Callable[..., Columns | None] = _of(self.inner, "layer_columns")
        return self.through("layer_columns", opener, partition=partition, ref=ref)

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool | None:
        """See `HookSpecs`. Called only where the inner adapter publishes."""
        publish: Callable[..., bool | None] = _of(self.inner, "layer_publish")
        return self.through("layer_publish", publish, partition=partition, origin=origin, version=version, items=items)

    @hookimpl
    def layer_closing(self) -> None:
        """See `HookSpecs`. Not through `through`, as below."""
        closing: Callable[[], None] | None = getattr(self.inner, "layer_closing", None)
        if closing is not None:
            closing()

    @hookimpl
    def layer_closed(self) -> None:
        """See `HookSpecs`. Never through `through`: what is held is given back whatever happened."""
        closed: Callable[[], None] | None = getattr(self.inner, "layer_closed", None)
        if closed is not None:
            closed()


def _of(adapter: Adapter, hook: str) -> Callable[..., Any]:
    """A hook that not every adapter has."""
    method: Callable[..., Any] = getattr(adapter, hook)
    return method
