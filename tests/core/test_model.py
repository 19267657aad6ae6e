"""The model finds nothing wrong with the protocol, something wrong without any of its rules, and the engine follows it."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from dynalayer import HistoryError
from dynalayer.asof import Historian
from dynalayer.testing.model import PARTS, RULES, Move, Scene, moves, search, tell
from dynalayer.testing.model.traces import steps_from
from dynalayer.testing.model.world import State, wrong
from .model_engine import Engine

DRIVEN = [name for name in PARTS if name not in ("append", "reset", "reset-read", "reset-past")]


@pytest.mark.parametrize("rule", RULES)
def test_without_any_one_rule_something_goes_wrong_in_as_few_steps_as_are_told(rule: str) -> None:
    scene = PARTS[RULES[rule].part].scene(frozenset({rule}), False)
    problem = search(scene).problem
    assert problem is not None
    assert len(problem.path) - 1 == RULES[rule].steps
    lines = list(tell(scene, problem))
    assert sum(line[:5].strip().rstrip(".").isdigit() for line in lines) == RULES[rule].steps
    assert lines[-1] == f"Wrong: {problem.what}"


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_wrong_in_the_small_size_of_a_part_and_all_of_it_is_searched(part: str) -> None:
    found = search(PARTS[part].scene(frozenset(), False))
    assert found.problem is None
    assert found.complete


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_wrong_in_the_first_states_of_the_whole_size_of_a_part(part: str) -> None:
    found = search(PARTS[part].scene(frozenset(), True), states=20_000)
    assert found.problem is None
    assert found.states >= 20_000


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Engine]]:
    """Engines whose syncers leave compaction to the compactors, which compact all that there is."""
    monkeypatch.setattr("dynalayer.syncing.due", lambda segments: None)
    monkeypatch.setattr("dynalayer.compaction.due", lambda segments: (0, len(segments)) if len(segments) > 1 else None)
    # It reads on, to say how far back one may ask.
    monkeypatch.setattr(Historian, "_expired", lambda self, partition, at: HistoryError(f"at={at} is not kept"))
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
    scene = PARTS[part].scene(frozenset(), False)
    assert sum(follow(scene, engines, walk(scene, seed)) for seed in range(10)) > 100


def along(scene: Scene, trace: list[Move]) -> Iterator[Move]:
    """The steps of a trace that goes wrong without a rule, with the rule: each actor's turn, and its step if there is such."""
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
    part = PARTS[RULES[rule].part]
    without = part.scene(frozenset({rule}), False)
    problem = search(without).problem
    assert problem is not None
    assert (
        follow(
            part.scene(frozenset(), False),
            engines,
            along(part.scene(frozenset(), False), list(moves(without, problem.path))),
        )
        > 0
    )
