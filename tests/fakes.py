"""Stand-ins that several tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from dynalayer import EventLog
from dynalayer.testing.faults import WrappedLog

P = ParamSpec("P")
T = TypeVar("T")

DAY = 24 * 3600


class Ticking:
    """A clock that the test moves; it also goes on by a millisecond at each look, so that no two moments are one."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> int:
        self.now += 1000
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


class Between(WrappedLog):
    """A log in which something else happens right before, or right after, a call of a method.

    What happens makes its own calls around this log, and happens as often as it was asked for.
    """

    def __init__(self, log: EventLog) -> None:
        super().__init__(log)
        self.calls: list[str] = []
        self._plans: dict[str, tuple[Callable[[], object], int]] = {}

    def then(self, point: str, do: Callable[[], object], *, times: int = 1) -> None:
        """Plan what happens at `"before METHOD"` or `"after METHOD"`."""
        self._plans[point] = (do, times)

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.calls.append(method)
        self._happen(f"before {method}")
        answer = call(*args, **kwargs)
        self._happen(f"after {method}")
        return answer

    def _happen(self, point: str) -> None:
        do, times = self._plans.get(point, (None, 0))
        if do is not None and times:
            self._plans[point] = (do, times - 1)
            do()


def put(identifier: str, **item: Any) -> dict[str, Any]:
    return {"type": "PUT", "item": {"id": identifier, **item}}


def delete(identifier: str) -> dict[str, Any]:
    return {"type": "DELETE", "item": {"id": identifier}}
