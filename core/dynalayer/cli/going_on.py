"""Going on with an import that broke off: which lines are in the log, and the options that say where to go on."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from dynalayer.errors import Outcome

__all__ = ["Lines", "options", "outcomes_told"]

_LINES = re.compile(r"([1-9][0-9]{0,17})(?:-([1-9][0-9]{0,17}))?")


@dataclass(frozen=True, slots=True)
class Lines:
    """Numbers of lines, as they are written and read: `3,7-9`.

    Attributes:
        ranges: In order, none empty, with lines between them.
    """

    ranges: tuple[range, ...] = ()

    @classmethod
    def of(cls, ranges: Iterable[range]) -> Self:
        """All lines of some ranges."""
        merged: list[range] = []
        for each in sorted(ranges, key=lambda each: each.start):
            if merged and each.start <= merged[-1].stop:
                merged[-1] = range(merged[-1].start, max(merged[-1].stop, each.stop))
            elif each:
                merged.append(each)
        return cls(tuple(merged))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Lines from text.

        Raises:
            ValueError: It says none.
        """
        ranges: list[range] = []
        for part in text.split(","):
            match = _LINES.fullmatch(part.strip())
            each = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
            if not each:
                raise ValueError(f"{part!r:.50} is no line and no range of lines; as in 3,7-9")
            ranges.append(each)
        return cls.of(ranges)

    def __contains__(self, number: int) -> bool:
        before = bisect_right(self.ranges, number, key=lambda each: each.start)
        return before > 0 and number in self.ranges[before - 1]

    def __str__(self) -> str:
        return ",".join(f"{each[0]}-{each[-1]}" if len(each) > 1 else str(each[0]) for each in self.ranges)

    def and_those(self, numbers: Iterable[int]) -> Lines:
        """These and others."""
        return Lines.of([*self.ranges, *(range(number, number + 1) for number in numbers)])

    def above(self, number: int) -> Lines:
        """Those above a line."""
        return Lines.of(range(max(each.start, number + 1), each.stop) for each in self.ranges)


def options(from_line: int, skip: Lines) -> str:
    """The options that let an import go on with a line, and leave out some of those after it."""
    left_out = str(skip.above(from_line))
    return f"--from-line {from_line}" + (f" --skip {left_out}" if left_out else "")


def outcomes_told(outcomes: Mapping[int, tuple[str, Outcome]], skip: Lines) -> str:
    """What became of a batch's lines, and how to go on without losing or doubling one.

    Args:
        outcomes: For each of its lines, in order, the partition that it belongs to and what is certain of that.
        skip: What is left out in any case.
    """
    lines = {outcome: _of(outcomes, outcome) for outcome in ("written", "not written")}
    told = [f"{outcome}: {numbers}" for outcome, numbers in lines.items() if numbers.ranges]
    partitions = dict.fromkeys(partition for partition, outcome in outcomes.values() if outcome == "unknown")
    told += [f"unknown, of partition {each!r}: {_of(outcomes, 'unknown', each)}" for each in partitions]
    left = [number for number, (_, outcome) in outcomes.items() if outcome != "written"]
    first, last = min(outcomes), max(outcomes)
    go_on = options(left[0] if left else last + 1, skip.and_those(outcomes.keys() - left))
    compare = (
        "; what is unknown of a partition is there whole or not at all: where `dynalayer history PARTITION` shows it, "
        "add its lines to --skip"
    )
    return f"of lines {first} to {last} {'; '.join(told)}; go on with {go_on}{compare if partitions else ''}"


def _of(outcomes: Mapping[int, tuple[str, Outcome]], outcome: str, partition: str | None = None) -> Lines:
    return Lines().and_those(
        number for number, (where, what) in outcomes.items() if what == outcome and partition in (None, where)
    )
