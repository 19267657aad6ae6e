"""The model finds nothing wrong with the protocol, something wrong without each rule, and the engine follows it."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dynalayer import HistoryError, MemoryEventLog
from dynalayer.asof import Historian
from dynalayer.eventlog.base import HeadMove
from dynalayer.testing.model import PARTS, RULES, Move, Scene, moves, search, tell
from dynalayer.testing.model.command import main
from dynalayer.testing.model.traces import steps_from
from dynalayer.testing.model.world import State, wrong

from .model_engine import Engine

DRIVEN = [name for name in PARTS if name not in ("append", "reset-past")]


@pytest.mark.parametrize("rule", RULES)
def test_without_any_one_rule_something_goes_wrong_in_as_few_steps_as_are_told(rule: str) -> None:
    scene = PARTS[RULES[rule].part].scene(frozenset({rule}), full=False)
    problem = search(scene).problem
    assert problem is not None
    assert len(problem.path) - 1 == RULES[rule].steps
    lines = list(tell(scene, problem))
    assert sum(line[:5].strip().rstrip(".").isdigit() for line in lines) == RULES[rule].steps
    assert lines[-1] == f"Wrong: {problem.what}"


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_wrong_in_the_small_size_of_a_part_and_all_of_it_is_searched(part: str) -> None:
    found = search(PARTS[part].scene(full=False))
    assert found.problem is None
    assert found.complete


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_wrong_in_the_first_states_of_the_whole_size_of_a_part(part: str) -> None:
    found = search(PARTS[part].scene(full=True), states=20_000)
    assert found.problem is None
    assert found.states >= 20_000


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Engine]]:
    """Engines whose syncers leave compaction to the compactors, which compact all that there is."""
    monkeypatch.setattr("dynalayer.syncing.due", lambda segments: None)
    monkeypatch.setattr("dynalayer.compaction.due", lambda segments: (0, len(segments)) if len(segments) > 1 else None)
    # It reads on, to say how far back one may ask.
    monkeypatch.setattr(Historian, "_expired", lambda self, partition, past, at: HistoryError(f"at={at} is not kept"))
    made: list[Engine] = []
    yield made
    for engine in made:
        engine.stop()


def follow(scene: Scene, engines: list[Engine], steps: Iterator[Move]) -> int:
    engine = Engine(scene)
    engines.append(engine)
    count = 0
    for move in steps:
        print(f"{count}. {move.actor} {move.text}")  # noqa: T201 -- what led to a failure
        engine.take(move)
        count += 1
    return count


def walk(scene: Scene, seed: int) -> Iterator[Move]:
    """A walk to an end, at random; a reset that finds records missing tries again for a while, which is left out."""
    chance = random.Random(seed)
    state: State = scene.start
    while True:
        possible = [move for move in steps_from(scene, state) if "missing: fails" not in move.text]
        if not possible:
            return
        move = chance.choice(possible)
        yield move
        state = move.after
        assert wrong(state, resets=scene.resets) is None


@pytest.mark.parametrize("part", DRIVEN)
def test_the_engine_follows_the_model_on_walks_at_random(part: str, engines: list[Engine]) -> None:
    scene = PARTS[part].scene(full=False)
    assert sum(follow(scene, engines, walk(scene, seed)) for seed in range(10)) > 100


def along(scene: Scene, trace: list[Move]) -> Iterator[Move]:
    """The steps of a trace that goes wrong without a rule, with the rule: each actor's turn, its step if it has it."""
    state: State = scene.start
    for wanted in trace:
        possible = [move for move in steps_from(scene, state) if move.at == wanted.at]
        if possible:
            same = [move for move in possible if move.label == wanted.label]
            move = (same or possible)[0]
            yield move
            state = move.after


@pytest.mark.parametrize("rule", [name for name, rule in RULES.items() if rule.part in DRIVEN])
def test_the_engine_keeps_each_rule_where_its_absence_would_do_harm(rule: str, engines: list[Engine]) -> None:
    assert follow(*trace_with(rule, engines)) > 0


def trace_with(rule: str, engines: list[Engine]) -> tuple[Scene, list[Engine], Iterator[Move]]:
    part = PARTS[RULES[rule].part]
    without, scene = part.scene(frozenset({rule}), full=False), part.scene(full=False)
    problem = search(without).problem
    assert problem is not None
    return scene, engines, along(scene, list(moves(without, problem.path)))


def test_a_log_that_moves_heads_without_comparing_is_not_what_the_model_does(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MemoryEventLog.move_head

    def careless(log: MemoryEventLog, partition: str, move: HeadMove) -> bool:
        return real(log, partition, replace(move, expected=log.head(partition).revision))

    monkeypatch.setattr(MemoryEventLog, "move_head", careless)
    with pytest.raises(AssertionError):
        follow(*trace_with("cas", engines))


def test_a_reader_that_takes_whatever_it_read_is_not_what_the_model_does(
    engines: list[Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dynalayer.current.following", lambda run, version, reset: run.records)
    with pytest.raises(AssertionError):
        follow(*trace_with("restart", engines))


def test_the_command_searches_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--small", "--part", "append", "--part", "sync"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["append", "sync", "all"]
    assert all(line.endswith("nothing is wrong") for line in lines)


def test_the_command_shows_what_comes_of_leaving_out_a_rule() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dynalayer.testing.model", "--without", "nonce"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert f"WRONG after {RULES['nonce'].steps} steps" in done.stdout
    assert "writer 1 finds slot 1 taken and tries the next" in done.stdout
    assert done.stdout.splitlines()[-1] == "Wrong: event 1 is doubled"


def test_the_command_fails_where_a_rule_is_not_missed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--small", "--part", "sync", "--without", "fence"]) == 1
    assert "nothing is wrong" in capsys.readouterr().out


@pytest.mark.parametrize("bound", [["--states", "100"], ["--seconds", "1", "--part", "vacuum"]])
def test_the_command_says_that_a_bound_cut_it_short(bound: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*bound, *(["--part", "sync"] if "--part" not in bound else [])]) == 3
    assert "cut short" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--without", "gravity"], ["--part", "all"], ["--states", "0"]])
def test_the_command_refuses_what_it_does_not_know(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_the_command_lists_all_parts_and_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if line[0] == " "} == {*PARTS, *RULES}


def test_the_page_about_the_model_tells_its_parts_and_its_rules() -> None:
    page = (Path(__file__).parents[2] / "docs" / "model.md").read_text()
    rows = re.findall(r"^\| `([a-z-]+)` \| ([^|]+?) \| `([a-z-]+)` \| (\d+) \|$", page, re.MULTILINE)
    assert rows == [(rule.name, rule.what, rule.part, str(rule.steps)) for rule in RULES.values()]
    told = re.findall(r"^\| `([a-z-]+)` \| ([^|]+?) \|$", page, re.MULTILINE)
    assert told == [(part.name, part.what) for part in PARTS.values()]
