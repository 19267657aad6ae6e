"""`dynalayer follow` and `dynalayer consumers`, as a user runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dynalayer import Layer
from program import InProcess, Program

OPTIONS = ("--table", "users", "--events", "sqlite:///events.db", "--storage", "local:snapshots")


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return InProcess(tmp_path)


@pytest.fixture
def layer(tmp_path: Path) -> Iterator[Layer]:
    with Layer(
        table="users",
        get_item_unique_identifier="id",
        get_item_partition="at",
        events=f"sqlite:///{tmp_path / 'events.db'}",
        storage=f"local:{tmp_path / 'snapshots'}",
    ) as layer:
        layer.set([put("eu", "a"), put("us", "b")])
        layer.set([put("eu", "c")])
        yield layer


def put(at: str, identifier: str) -> dict[str, Any]:
    return {"type": "PUT", "item": {"at": at, "id": identifier}}


def ids(lines: str) -> list[str]:
    return [json.loads(line)["id"] for line in lines.splitlines()]


@contextmanager
def following(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [Program(folder).path, "follow", "--consumer", "index", "--poll", "0.05", *arguments, *OPTIONS]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def line_of(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    told: dict[str, Any] = json.loads(process.stdout.readline())
    return told


def test_what_is_printed_is_as_history_prints_it_and_is_printed_once(program: Program, layer: Layer) -> None:
    follow = ("follow", "--consumer", "index", "--once", *OPTIONS)
    told = program.good(*follow)
    assert told == program.good("history", "eu", *OPTIONS) + program.good("history", "us", *OPTIONS)
    assert program.good(*follow) == ""
    layer.set([put("us", "d")])
    layer.sync()
    assert ids(program.good(*follow)) == ["d"]


def test_a_new_consumer_begins_where_it_is_told_and_follows_the_partitions_it_is_told(
    program: Program, layer: Layer
) -> None:
    cursor = layer.sync().cursor
    assert cursor is not None
    at = layer.set([put("us", "d")])[0].at.isoformat()
    layer.set([put("us", "e")])
    follow = ("follow", "--once", *OPTIONS)
    assert ids(program.good(*follow, "--consumer", "1", "--since", "now")) == []
    assert ids(program.good(*follow, "--consumer", "2", "--since", at)) == ["e"]
    assert ids(program.good(*follow, "--consumer", "3", "--since-cursor", cursor)) == ["d", "e"]
    assert ids(program.good(*follow, "--consumer", "4", "--partition", "eu", "--partition", "de")) == ["a", "c"]
    layer.import_snapshot("taken", [{"at": "taken", "id": "a"}])
    told = program.good(*follow, "--consumer", "1")
    assert [json.loads(line) for line in told.splitlines()] == [{"type": "RESET", "partition": "taken", "version": 1}]


def test_consumers_are_shown_moved_and_forgotten(program: Program, layer: Layer) -> None:
    consumers = ("consumers", *OPTIONS)
    assert program.good(*consumers) == "no consumers; dynalayer follow --consumer NAME makes one\n"
    program.good("follow", "--consumer", "index", "--once", *OPTIONS)
    layer.set([put("us", "d")])
    head, row = program.good(*consumers).splitlines()
    assert head.split() == ["CONSUMER", "SINCE", "MADE", "BEHIND"]
    assert (row.split()[0], row.split()[1], row.split()[-1]) == ("index", "beginning", "1")
    assert "us               1       1" in program.good(*consumers, "index")
    (told,) = json.loads(program.good(*consumers, "--json"))
    assert told["behind"] == 1
    assert told["partitions"][0] == {"partition": "eu", "version": 2, "behind": 0}
    assert "has to follow again" in program.good(*consumers, "index", "--move-to", "1", "--partition", "eu")
    assert ids(program.good("follow", "--consumer", "index", "--once", *OPTIONS)) == ["c", "d"]
    program.good(*consumers, "index", "--move-to", "now")
    assert program.good("follow", "--consumer", "index", "--once", *OPTIONS) == ""
    program.good(*consumers, "index", "--forget")
    assert "no consumers" in program.good(*consumers)


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (("follow", "--once"), "Missing option '--consumer'", 2),
        (("follow", "--consumer", "", "--once"), "1 to 255", 1),
        (("follow", "--consumer", "c", "--once", "--since", "yesterday"), "neither beginning nor now", 2),
        (("follow", "--consumer", "c", "--once", "--since", "2026-01-01"), "no time zone", 2),
        (("follow", "--consumer", "c", "--once", "--since", "3"), "is a version", 2),
        (("follow", "--consumer", "c", "--once", "--since-cursor", "x"), "no beginning", 1),
        (("follow", "--consumer", "c", "--since", "now", "--since-cursor", "x"), "exclude each other", 2),
        (("follow", "--consumer", "c", "--poll", "0"), "--poll", 2),
        (("consumers", "nobody"), "no consumer nobody", 1),
        (("consumers", "nobody", "--forget"), "no consumer 'nobody'", 1),
        (("consumers", "nobody", "--move-to", "now"), "no consumer 'nobody'", 1),
        (("consumers", "nobody", "--move-to", "1"), "--partition names it", 2),
        (("consumers", "nobody", "--move-to", "now", "--forget"), "exclude each other", 2),
        (("consumers", "--forget"), "NAME says which", 2),
        (("consumers", "nobody", "--partition", "eu"), "--partition goes with", 2),
    ],
)
def test_wrong_input_is_told_in_a_line(
    arguments: tuple[str, ...], told: str, code: int, program: Program, layer: Layer
) -> None:
    del layer
    assert told in program.bad(*arguments, *OPTIONS, code=code)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_the_position_saved(number: int, program: Program, layer: Layer) -> None:
    with following(program.folder) as process:
        assert [line_of(process)["id"] for _ in range(3)] == ["a", "c", "b"]
        layer.set([put("eu", "d")])
        assert line_of(process)["id"] == "d"
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.communicate() == (b"", b"")
    layer.set([put("eu", "e")])
    assert ids(program.good("follow", "--consumer", "index", "--once", *OPTIONS)) == ["e"]


def test_a_reader_that_has_enough_ends_it_without_a_traceback_and_what_was_not_written_is_not_counted(
    program: Program, layer: Layer
) -> None:
    layer.set([put("eu", str(number)) for number in range(1500)])  # more than a pipe takes
    with following(program.folder) as process:
        assert process.stdout is not None
        first = line_of(process)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(30) != 0
    rest = ids(program.good("follow", "--consumer", "index", "--once", *OPTIONS))
    assert first["id"] == "a"
    assert rest[-1] == "b"
    assert len(rest) > 500
    assert rest[:-1] == [event.id for event in layer.history("eu")][-len(rest) + 1 :]


def test_who_followed_before_under_the_name_is_told_in_a_line(program: Program, layer: Layer) -> None:
    with following(program.folder) as process:
        assert [line_of(process)["id"] for _ in range(3)] == ["a", "c", "b"]
        program.good("follow", "--consumer", "index", "--once", *OPTIONS)
        layer.set([put("eu", "d")])
        assert process.wait(30) == 1
        _, errors = process.communicate()
        assert b"another process follows as consumer 'index'" in errors
        assert b"Traceback" not in errors
