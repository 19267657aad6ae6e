"""An import that broke off says how to go on, so that no line is lost or doubled."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from dynalayer import AppendError, Layer, MemoryEventLog
from dynalayer.cli import main
from dynalayer.cli.going_on import Lines, options
from dynalayer.errors import Outcome
from dynalayer.eventlog.base import Appended, Draft

PARTITIONS = ("eu", "us", "ap")


class Failing(MemoryEventLog):
    """A log in memory that outlives its layers, and whose appends fail for some partitions as it is told.

    Attributes:
        fails: Partitions to what is said of them; those of which it is unknown arrive where `arrives` says so.
        after: Appends that go well before.
    """

    def __init__(self) -> None:
        super().__init__("items")
        self.fails: dict[str, Outcome] = {}
        self.after = 0
        self.arrives = True

    def append(self, drafts: Sequence[Draft]) -> tuple[Appended, ...]:
        self.after -= 1
        outcomes: dict[str, Outcome] = {draft.partition: "written" for draft in drafts}
        if self.after < 0:
            outcomes |= {draft.partition: self.fails.get(draft.partition, "written") for draft in drafts}
        there = [
            draft
            for draft in drafts
            if outcomes[draft.partition] == "written" or (outcomes[draft.partition] == "unknown" and self.arrives)
        ]
        placed = super().append(there)
        if set(outcomes.values()) != {"written"}:
            raise AppendError("the network is gone", outcomes=outcomes)
        return placed

    def close(self) -> None:
        pass


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Failing:
    """The log that every import opens."""
    log = Failing()
    monkeypatch.setattr("dynalayer.layer.open_event_log", lambda events, table: log)
    return log


def run(folder: Path, *more: str, batch: int = 6) -> Result:
    storage = f"local:{folder / 'snapshots'}"
    return CliRunner().invoke(
        main, ["import", str(folder / "events.jsonl"), "--storage", storage, "--batch", str(batch), *more]
    )


def write(folder: Path, count: int) -> None:
    events = [
        {"type": "PUT", "id": f"{number}", "partition": PARTITIONS[number % 3], "item": {}}
        for number in range(1, count + 1)
    ]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def ids(log: Failing) -> list[str]:
    with Layer(table="items", events=log, storage="local:unused") as layer:
        return [event.id for partition in layer.partitions() for event in layer.history(partition)]


def go_on(result: Result) -> list[str]:
    """The options that an error names."""
    (told,) = re.findall(r"go on with (--from-line \d+(?: --skip [\d,-]+)?)", result.output)
    return str(told).split()


def test_a_batch_written_in_part_is_gone_on_with_line_by_line(log: Failing, tmp_path: Path) -> None:
    write(tmp_path, 20)
    log.fails, log.after = {"us": "not written"}, 1
    failed = run(tmp_path)
    assert failed.exit_code == 1
    assert "of lines 7 to 12 written: 8-9,11-12; not written: 7,10; go on with --from-line 7 --skip 8-9,11-12" in (
        failed.output
    )
    assert go_on(failed) == ["--from-line", "7", "--skip", "8-9,11-12"]
    again = run(tmp_path, *go_on(failed))  # fails again, in a batch that is another now: 7, 10 and 13 to 16
    assert go_on(again) == ["--from-line", "7", "--skip", "8-9,11-12,14-15"]
    log.fails = {}
    assert run(tmp_path, *go_on(again)).exit_code == 0
    assert sorted(ids(log), key=int) == [str(number) for number in range(1, 21)]


def test_a_batch_of_which_nothing_is_written_is_gone_on_with_at_its_first_line(log: Failing, tmp_path: Path) -> None:
    write(tmp_path, 20)
    log.fails, log.after = dict.fromkeys(PARTITIONS, "not written"), 2
    failed = run(tmp_path)
    assert "of lines 13 to 18 not written: 13-18; go on with --from-line 13\n" in failed.output
    log.fails = {}
    assert run(tmp_path, *go_on(failed)).exit_code == 0
    assert Counter(ids(log)) == Counter(str(number) for number in range(1, 21))


@pytest.mark.parametrize("arrives", [True, False])
def test_of_what_is_unknown_the_lines_are_told_to_be_compared_with_the_history(
    log: Failing, tmp_path: Path, arrives: bool
) -> None:
    write(tmp_path, 9)
    log.fails, log.arrives = {"ap": "unknown", "us": "not written"}, arrives
    failed = run(tmp_path)
    assert (
        "of lines 1 to 6 written: 3,6; not written: 1,4; unknown, of partition 'ap': 2,5; go on with --from-line 1 "
        "--skip 3,6; what is unknown of a partition is there whole or not at all: where `dynalayer history PARTITION` "
        "shows it, add its lines to --skip"
    ) in failed.output
    there = {"2", "5"} <= set(ids(log))
    assert there == arrives
    log.fails = {}
    first, skip = go_on(failed)[1::2]
    assert run(tmp_path, "--from-line", first, "--skip", f"{skip},2,5" if there else skip).exit_code == 0
    assert Counter(ids(log)) == Counter(str(number) for number in range(1, 10))


def test_a_line_that_cannot_be_taken_behind_lines_left_out_keeps_them_left_out(log: Failing, tmp_path: Path) -> None:
    write(tmp_path, 9)
    with (tmp_path / "events.jsonl").open("a") as file:
        file.write("no event\n")
    failed = run(tmp_path, "--from-line", "2", "--skip", "3, 5-6,11-12")
    assert go_on(failed) == ["--from-line", "10", "--skip", "11-12"]
    assert sorted(ids(log)) == ["2", "4", "7", "8", "9"]


def test_a_batch_that_is_too_large_is_not_written_and_gone_on_with_at_its_first_line(
    log: Failing, tmp_path: Path
) -> None:
    write(tmp_path, 9)
    log.record_limit = 10
    failed = run(tmp_path)
    assert "give them in several" in failed.output
    assert go_on(failed) == ["--from-line", "1"]


@pytest.mark.parametrize("wrong", ["x", "0", "5-3", "1,,2", "1-", "-1"])
def test_lines_that_are_none_are_wrong_usage(log: Failing, tmp_path: Path, wrong: str) -> None:
    write(tmp_path, 1)
    done = run(tmp_path, f"--skip={wrong}")
    assert done.exit_code == 2
    assert "as in 3,7-9" in done.output


numbers = st.sets(st.integers(1, 60), min_size=1)


@given(numbers, numbers, st.integers(1, 60))
def test_lines_are_read_as_they_are_written(some: set[int], more: set[int], first: int) -> None:
    lines = Lines().and_those(some).and_those(more)
    assert {number for number in range(70) if number in lines} == some | more
    assert Lines.parse(str(lines)) == lines
    assert {number for number in range(70) if number in lines.above(first)} == {
        number for number in some | more if number > first
    }
    assert len(lines.ranges) == sum(number - 1 not in some | more for number in some | more)


def test_options_name_lines_to_skip_only_where_there_are_any() -> None:
    assert options(7, Lines.parse("1-6")) == "--from-line 7"
    assert options(7, Lines.parse("1-9")) == "--from-line 7 --skip 8-9"
