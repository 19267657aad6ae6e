"""The wrapper: its settings, and what of an adapter is tried again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from dynalayer import Adapter, ConfigurationError, Segment, WrappedAdapter, hookimpl
from dynalayer_retry.tries import Limits, Tries

if TYPE_CHECKING:  # it needs pyarrow, which is an extra
    from dynalayer.columns import Columns

__all__ = ["Retry", "RetryAdapter"]

P = ParamSpec("P")
T = TypeVar("T")

_MOST_ATTEMPTS = 100
_MOST_SECONDS = 3600.0


class Retry:
    """A wrapper that tries again what failed in a way that may pass: `may_pass` of `dynalayer` tells.

    A failure is tried again after a wait that is drawn between nothing and a bound, which doubles from one to the next.
    What an adapter's own client tries again within a call counts as one try.

    Args:
        attempts: How often a call is made at most, 1 to 100.
        seconds: Within how many seconds of its first try the last one begins, up to 3,600; one that runs goes on.
        first: The first wait's bound, in seconds.
        longest: The largest bound, in seconds.

    Raises:
        ConfigurationError: A setting is out of bounds.
    """

    name = "retry"

    def __init__(self, attempts: int = 5, seconds: float = 30.0, first: float = 0.1, longest: float = 5.0) -> None:
        _check_attempts(attempts)
        for setting, value in (("seconds", seconds), ("first", first), ("longest", longest)):
            _check_seconds(setting, value)
        if first > longest:
            raise ConfigurationError(f"retry: first is {first:g} seconds, above longest, which is {longest:g}")
        self._limits = Limits(attempts, seconds, first, longest)

    def around(self, inner: Adapter) -> RetryAdapter:
        """Put it around an adapter.

        Raises:
            ConfigurationError: There is a retry inside already.
        """
        within: object = inner
        while within is not None:
            if isinstance(within, RetryAdapter):
                raise ConfigurationError(
                    "storage: retry stands around another retry, whose attempts it would multiply; leave one out"
                )
            within = getattr(within, "inner", None)
        return RetryAdapter(inner, self._limits)


def _check_attempts(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST_ATTEMPTS:
        raise ConfigurationError(f"retry: attempts is a whole number, 1 to {_MOST_ATTEMPTS}, not {value!r:.50}")


def _check_seconds(setting: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _MOST_SECONDS:
        raise ConfigurationError(f"retry: {setting} is a number of seconds up to {_MOST_SECONDS:g}, not {value!r:.50}")


class RetryAdapter(WrappedAdapter):
    """An adapter whose calls are made again; see `Retry`.

    Args:
        inner: The adapter.
        limits: How often and how long.
    """

    def __init__(self, inner: Adapter, limits: Limits) -> None:
        super().__init__(inner)
        self._tries = Tries(limits)

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call, and make it again."""
        return self._tries.call(method, lambda: call(*args, **kwargs))

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """Store a segment. A second try stores the same under the same name."""
        if not self.capabilities.immutable:
            # In one mutable place a late second try could take that of a newer sync.
            return self.inner.layer_setter(partition=partition, segment=segment)
        return super().layer_setter(partition, segment)

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str | None:
        """Store a segment given by columns; not again once a batch was taken, since they are read once."""
        from dynalayer_retry.reading import ReadOnce  # noqa: PLC0415 -- as below

        given = ReadOnce(columns)
        store: Callable[..., str | None] = self.inner.layer_columns_setter  # type: ignore[attr-defined] # it has the capability
        call = partial(store, partition=partition, columns=given)
        return self._tries.call("layer_columns_setter", call, unless=lambda: given.taken)

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns | None:
        """Open a segment by columns, which go on where they were when reading a batch fails."""
        from dynalayer_retry.reading import RetriedColumns  # noqa: PLC0415 -- needs pyarrow, which whoever reads by columns has

        inner: Callable[..., Columns | None] = self.inner.layer_columns  # type: ignore[attr-defined] # it has the capability
        opened = partial(inner, partition=partition, ref=ref)
        columns = self._tries.call("layer_columns", opened)
        return None if columns is None else RetriedColumns(self._tries, opened, columns, ref)

    @hookimpl
    def layer_closing(self) -> None:
        """End all waits, with the errors that led to them."""
        self._tries.closed = True
        super().layer_closing()
