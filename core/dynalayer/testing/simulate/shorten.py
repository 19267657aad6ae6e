"""From a run that fails to a shorter one that fails too: what can be left out is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from dynalayer.testing.simulate.actors import Operation
from dynalayer.testing.simulate.run import Outcome, Plan, run

__all__ = ["shortened"]

T = TypeVar("T")


def shortened(outcome: Outcome, *, runs: int = 400) -> Outcome:
    """The shortest failing run that is found within so many runs.

    Operations are left out, then faults, in ever smaller portions. What falls elsewhere stays as it was, since choices
    hang on their place alone. The failure that is left may be another than the first.

    Args:
        outcome: Of a run that failed.
        runs: How often to run at most.
    """
    search = _Search(outcome, runs)
    while search.left:
        before = (len(search.best.plan.operations), len(search.best.faults))
        search.reduce(search.best.plan.operations, _with_operations)
        search.reduce(search.best.faults, _with_faults)
        if before == (len(search.best.plan.operations), len(search.best.faults)):
            break
    return search.best


def _with_operations(plan: Plan, kept: Sequence[Operation]) -> Plan:
    return replace(plan, operations=tuple(kept))


def _with_faults(plan: Plan, kept: Sequence[tuple[object, ...]]) -> Plan:
    return replace(plan, only=frozenset(kept))


class _Search:
    def __init__(self, outcome: Outcome, runs: int) -> None:
        self.best = outcome
        self.left = runs

    def reduce(self, parts: Sequence[T], build: Callable[[Plan, Sequence[T]], Plan]) -> None:
        """Leave out parts, halves first, then smaller portions, as long as the run fails."""
        kept = list(parts)
        size = max(1, len(kept) // 2)
        while kept:
            start = 0
            while start < len(kept):
                fewer = kept[:start] + kept[start + size :]
                if self._fails(build(self.best.plan, fewer)):
                    kept = fewer
                else:
                    start += size
            if size == 1 or not self.left:
                return
            size //= 2

    def _fails(self, plan: Plan) -> bool:
        if not self.left:
            return False
        self.left -= 1
        outcome = run(plan)
        if outcome.failure is None:
            return False
        self.best = outcome
        return True
