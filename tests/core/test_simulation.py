"""The engine in a simulated world: no seed may fail, and each fault that is planted must make one fail."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dynalayer.testing.simulate import Outcome, plan_of, run
from dynalayer.testing.simulate.__main__ import main
from dynalayer.testing.simulate.shorten import shortened
from planted import PLANTS

SEEDS = 200
CHUNK = 25
WITHIN = 200  # seeds in which a planted fault must be found


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What fails on purpose is logged by the hundred."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_no_seed_loses_doubles_or_misses_an_event(first: int) -> None:
    for seed in range(first, first + CHUNK):
        outcome = run(plan_of(seed))
        assert outcome.failure is None, f"python -m dynalayer.testing.simulate --seed {seed}: {outcome.failure}"


@pytest.mark.parametrize(("log", "store"), [("sqlite", "local"), ("memory", "local"), ("memory", "parquet")])
def test_no_seed_fails_over_files(log: str, store: str) -> None:
    for seed in range(1000, 1006):
        assert run(plan_of(seed, log=log, store=store)).failure is None, seed


def test_no_seed_fails_over_dynamodb_where_requests_are_lost_late_and_refused() -> None:
    for seed in range(2000, 2004):
        assert run(plan_of(seed, log="dynamodb", store="memory")).failure is None, seed


def first_failure() -> Outcome | None:
    for seed in range(WITHIN):
        # Over memory, which is a hundred times quicker; the faults are the engine's.
        outcome = run(plan_of(seed, log="memory", store="memory"))
        if outcome.failure is not None:
            return outcome
    return None


@pytest.mark.parametrize("name", sorted(PLANTS))
def test_a_planted_fault_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[name](monkeypatch)
    assert first_failure() is not None


def test_a_failing_run_is_shortened_to_one_that_fails_too(monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS["a_vacuum_does_not_raise_the_revision"](monkeypatch)
    failing = first_failure()
    assert failing is not None
    short = shortened(failing)
    assert short.failure is not None
    assert len(short.plan.operations) <= 8 < len(failing.plan.operations)
    assert len(short.trace) < len(failing.trace)
    assert run(short.plan).trace == short.trace


def test_the_command_prints_the_seed_and_a_trace_of_the_first_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    PLANTS["a_delta_forgets_what_was_deleted"](monkeypatch)
    assert main(["--seed", "0", "--seeds", "50", "--log", "memory", "--store", "memory"]) == 1
    printed = capsys.readouterr().out
    assert "again: python -m dynalayer.testing.simulate --seed" in printed
    assert "begins: sync" in printed
    assert "is the state at none" in printed


def test_the_command_tells_how_much_it_checked(capsys: pytest.CaptureFixture[str]) -> None:
    level = logging.getLogger("dynalayer").level
    assert main(["--seed", "7", "--seeds", "2"]) == 0
    assert "2 seeds in" in capsys.readouterr().out
    assert logging.getLogger("dynalayer").level == level


def test_a_seed_gives_the_same_run_byte_for_byte_in_every_process() -> None:
    command = [sys.executable, "-m", "dynalayer.testing.simulate", "--seed", "11", "--seeds", "3", "--trace"]
    printed = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": hashes}, capture_output=True, check=True
        ).stdout.rpartition(b"\n3 seeds in")[0]
        for hashes in ("1", "2")
    ]
    assert printed[0] == printed[1]
    assert printed[0].count(b"begins: ") > 100


def test_runs_meet_what_they_are_for() -> None:
    """A simulation in which nothing happens finds nothing."""
    outcomes = [run(plan_of(seed, log="memory", store="memory")) for seed in range(40)]
    traces = "\n".join(line for outcome in outcomes for line in outcome.trace)
    for kind in ("lost", "answer lost", "late", "crash before", "crash after", "wrong bytes", "lag"):
        assert f": {kind}\n" in traces, kind
    for sign in ("arrives late", "lease: False", "[base 0-1, delta 1-", "layer_discard", " reset]"):
        assert sign in traces, sign
    assert sum(outcome.counts["folds"] for outcome in outcomes) > 100
    assert sum(outcome.counts["resets"] for outcome in outcomes) > 3
    assert any("False" in line and "move_head" in line for outcome in outcomes for line in outcome.trace)


def test_without_faults_nothing_fails_at_all() -> None:
    for seed in range(20):
        outcome = run(replace(plan_of(seed, log="memory", store="memory"), rate=0.0))
        assert outcome.failure is None
        assert "Error" not in "\n".join(line for line in outcome.trace if " ends: " in line and "Conflict" not in line)
