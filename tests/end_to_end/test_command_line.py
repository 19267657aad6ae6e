"""The command line, as a user meets it: the installed program, real files, right and wrong input."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from dynalayer import Layer
from program import Program


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def put(identifier: str, **item: Any) -> dict[str, Any]:
    return {"type": "PUT", "id": identifier, "item": item}


def test_what_is_imported_is_got_back_with_its_types(program: Program) -> None:
    item = {"price": {"$decimal": "1.50"}, "big": 10**37, "raw": {"$bytes": "aGk="}, "tags": {"$set": ["a", "b"]}}
    assert program.good("import", "-", stdin=lines(put("x", **item)), fresh=True) == "1 event taken, in 1 partition\n"
    assert json.loads(program.good("get", fresh=True)) == item | {"big": {"$int": str(10**37)}}
    with Layer(table="items", events=f"sqlite:///{program.folder}/.dynalayer/events.db") as layer:
        (kept,) = layer.get()
    assert kept["big"] == 10**37
    assert kept["tags"] == {"a", "b"}


def test_history_can_be_imported_again(program: Program) -> None:
    program.good("import", "-", stdin=lines(put("x", n=1), put("x", n=2), {"type": "DELETE", "id": "x", "item": {}}))
    told = program.good("history", "--id", "x").encode()
    ignored = ("--ignore", "version", "--ignore", "cursor", "--ignore", "at")
    program.good("import", "-", "--table", "copy", *ignored, stdin=told)
    again = [json.loads(line) for line in program.good("history", "--table", "copy").splitlines()]
    assert [(event["type"], event["item"]) for event in again] == [("PUT", {"n": 1}), ("PUT", {"n": 2}), ("DELETE", {})]


def test_the_past_is_read_by_version_moment_and_cursor(program: Program) -> None:
    program.good("import", "-", stdin=lines(put("x", n=1)))
    program.good("sync", fresh=True)
    (event,) = (json.loads(line) for line in program.good("history", fresh=True).splitlines())
    program.good("import", "-", stdin=lines(put("x", n=2)))
    assert json.loads(program.good("get")) == {"n": 2}
    for at in (("--at-version", "1"), ("--at-moment", event["at"]), ("--at-cursor", event["cursor"])):
        assert json.loads(program.good("get", *at)) == {"n": 1}
    assert program.good("get", "--at-version", "0") == ""
    assert "exclude each other" in program.bad("get", "--at-version", "1", "--at-cursor", "x", code=2)
    assert "no time zone" in program.bad("get", "--at-moment", "2026-01-01", code=2)
    assert "there is no version 9; the newest is 2" in program.bad("get", "--at-version", "9")
    assert "no sync had the cursor 'yesterday'" in program.bad("get", "--at-cursor", "yesterday")


def test_status_counts_what_is_pending_and_folded(program: Program) -> None:
    program.good("import", "-", "--sync", stdin=lines(put("x"), put("y")))
    program.good("import", "-", stdin=lines({"partition": "eu", **put("z")}))
    told = program.good("status")
    assert "3 events in 2 partitions, 1 of them pending" in told
    counts = json.loads(program.good("status", "--json"))
    assert (counts["synced_total"], counts["unsynced_total"], counts["synced_times"]) == (2, 1, 1)
    assert json.loads(program.good("status", "eu", "--json"))["unsynced_total"] == 1


def test_one_is_told_in_the_singular_and_others_in_the_plural(program: Program) -> None:
    program.good("import", "-", "--sync", stdin=lines(put("x")))
    assert "1 event in 1 partition, 0 of them pending\nsynced 1 time; last" in program.good("status")
    assert program.good("verify") == "1 partition, 1 segment and 1 record read; 0 wrong\n"
    program.good("import", "-", "--sync", stdin=lines(put("x"), {"partition": "eu", **put("z")}))
    assert "3 events in 2 partitions, 0 of them pending\nsynced 2 times; last" in program.good("status")


def test_a_broken_line_is_named_and_what_stands_before_it_is_taken(program: Program) -> None:
    good = lines(*(put(str(number)) for number in range(7)))
    (program.folder / "part.jsonl").write_bytes(good + b'{"type": "PUT", "id": "7", "ite\n' + lines(put("8")))
    error = program.bad("import", "part.jsonl", "--batch", "5")
    assert "part.jsonl, line 8:" in error
    assert "Lines taken before it: 7" in error
    assert len(program.good("get").splitlines()) == 7
    program.good("import", "part.jsonl", "--from-line", "9")
    assert len(program.good("get").splitlines()) == 8


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"type": "PUT", "item": {"n": 1}}', "no 'id'"),
        (b'{"type": "PUT", "id": "", "item": {}}', "'id' is empty"),
        (b'{"type": "PUT", "id": 1.5, "item": {}}', "text or a whole number"),
        (b'{"type": "PUT", "id": true, "item": {}}', "text or a whole number"),
        (b'{"type": "PATCH", "id": "x", "item": {}}', "'PATCH' is none of PUT, UPDATE, DELETE"),
        (b'{"type": "PUT", "id": "x", "item": {}, "commit": 1}', "unknown key 'commit'"),
        (b'{"type": "PUT", "id": "x"}', "no 'item'"),
        (b'{"type": "PUT", "id": "x", "item": {"a": [1, {"b": 1e999}]}}', "attribute a[1].b: inf"),
        (
            b'{"type": "PUT", "id": "x", "item": {"a": 1' + b"0" * 38 + b"}}",
            "attribute a: a whole number of more than 38",
        ),
        (b'{"type": "PUT", "id": "x", "item": {"a": {"$decimal": "one"}}}', "$decimal: 'one' is no number"),
        (b'{"type": "PUT", "id": "x", "item": {"a": {"$money": 1}}}', "unknown tag '$money'"),
        (b'{"type": "PUT", "id": "x", "item": [1]}', "an item is a JSON object"),
        (b'{"type": "PUT", "id": "x", "partition": 5, "item": {}}', "a partition is text"),
        (b'{"type": "PUT", "id": "x", "partition": "' + b"p" * 513 + b'", "item": {}}', "513 bytes"),
        (b'{"type": "PUT", "id": "x", "item": {"a": "\\ud800"}}', "lone surrogate"),
        (b'{"type": "PUT", "id": "x", "item": ' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}", "line 2:"),
        (b'["PUT"]', "an event is a mapping"),
        (b"\xff\xfe", "no JSON of an event"),
    ],
)
def test_a_line_that_cannot_be_taken_says_why_and_leaves_nothing(program: Program, line: bytes, reason: str) -> None:
    error = program.bad("import", "-", stdin=lines(put("before")) + line + b"\n" + lines(put("after")))
    assert "<stdin>, line 2:" in error
    assert reason in error
    assert len(program.good("history").splitlines()) == 1


def test_a_truncated_gzip_file_is_named_and_its_whole_lines_are_taken(program: Program) -> None:
    packed = gzip.compress(lines(*(put(str(number), text="x" * number) for number in range(20_000))), mtime=0)
    (program.folder / "cut.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    error = program.bad("import", "cut.jsonl.gz")
    assert "cut.jsonl.gz, line " in error
    taken = int(error.partition("Lines taken before it: ")[2].partition(";")[0].replace(",", ""))
    assert taken > 1000
    assert len(program.good("history").splitlines()) == taken


def test_reading_commands_make_no_event_log(program: Program) -> None:
    for command in ("get", "history", "status", "sync", "verify", "vacuum"):
        assert "there is no event log" in program.bad(command)
    assert list(program.folder.iterdir()) == []
    program.good("import", "-", stdin=lines(put("x")))
    assert "no layer of table 'other'; it has: items" in program.bad("get", "--table", "other")
    for command in ("get", "history", "status", "sync", "verify", "vacuum", "explain"):
        assert "table='us ers' is no table name" in program.bad(command, "--table", "us ers")


def test_what_is_not_there_is_told_with_what_is(program: Program) -> None:
    assert "there is no event log 'postgres'; there are: dynamodb, memory, sqlite" in program.bad(
        "status", "--events", "postgres://x"
    )
    program.good("import", "-", stdin=lines(put("x")))
    assert "there is no adapter 'ftp'; installed: cache, encryption, local" in program.bad(
        "sync", "--storage", "ftp://x"
    )
    assert "knows no option 'fast'" in program.bad("sync", "--storage", "local:x?fast=1")
    assert "no URL" in program.bad("sync", "--storage", "snapshots")
    assert "names a host" in program.bad("sync", "--storage", "local://snapshots")
    error = program.bad("sync", "--storage", "local://user:secret@host/x")
    assert "credentials" in error
    assert "secret" not in error
    assert "three or four slashes" in program.bad("status", "--events", "sqlite:events.db")


def test_explain_says_that_a_log_is_not_paid_by_request_and_that_a_partition_has_no_events(program: Program) -> None:
    program.good("import", "-", stdin=lines(put("x", n=1)))
    told = program.good("explain")
    assert "the event log is not paid by request" in told
    assert "append" not in told
    assert "0 read units" not in told.partition("sync: ")[0]
    assert "1 x Query" in told
    program.good("sync")
    assert "1 x layer_getter" in program.good("explain")
    told = program.good("explain", "nosuch")
    assert told == (
        "partition nosuch: 0 items of 0 bytes; 0 segments, 0 records pending\n"
        "no event of it is known yet; what it costs depends on what is set\n"
    )


def test_a_corrupt_segment_is_found_by_verify_and_named_by_get(program: Program) -> None:
    program.good("import", "-", "--sync", stdin=lines(put("x", n=1)))
    assert "0 wrong" in program.good("verify")
    (segment,) = program.folder.glob(".dynalayer/snapshots/items/*/*.segment")
    segment.write_bytes(segment.read_bytes().replace(b'"n":1', b'"n":2'))
    done = program.run("verify")
    assert done.returncode == 1
    assert segment.name in done.stdout.decode()
    error = program.bad("get")
    assert str(segment) in error
    assert "corrupt" in error


def test_the_demo_shows_the_main_job_and_leaves_nothing(program: Program) -> None:
    told = program.good("demo")
    for part in (
        "630 changes",
        "pending 630, folded 0",
        "folded 630 events",
        "the same items",
        "as of version",
        "0 wrong",
    ):
        assert part in told
    assert list(program.folder.iterdir()) == []
    told = program.good("demo", "--keep", "here it is")
    assert "dynalayer status" in told
    assert "it is there already" in program.bad("demo", "--keep", "here it is", code=2)


def test_the_version_is_the_distributions(program: Program) -> None:
    assert program.good("--version").strip().startswith("dynalayer, version ")


def test_an_interrupted_import_says_with_which_line_to_go_on(program: Program) -> None:
    # The program waits for more input: it is interrupted between batches, or says that it was within one.
    with subprocess.Popen(
        [program.path, "import", "-", "--batch", "1"],
        cwd=program.folder,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdin
        running.stdin.write(lines(put("a"), put("b")))
        running.stdin.flush()
        for _ in range(600):
            if b"2 events" in program.run("status").stdout:
                break
            time.sleep(0.05)
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert b"interrupted; the lines through 2 were taken; go on with --from-line 3" in said


def test_output_that_cannot_be_written_is_an_error_not_a_traceback(program: Program) -> None:
    program.good("import", "-", stdin=lines(*(put(str(number)) for number in range(100))))
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [program.path, "get"], cwd=program.folder, stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 1
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_names_that_would_move_the_cursor_are_shown_quoted(program: Program) -> None:
    program.good("import", "-", stdin=lines({"partition": "p\x1b[31mred\n", **put("a")}))
    assert r"'p\x1b[31mred\n'" in program.good("status")


def test_the_program_runs_as_a_module_too(program: Program) -> None:
    done = subprocess.run([sys.executable, "-m", "dynalayer", "--version"], capture_output=True, timeout=60)
    assert done.stdout.startswith(b"dynalayer, version ")


def test_an_import_into_memory_is_refused(program: Program) -> None:
    assert "gone when the command ends" in program.bad("import", "-", "--events", "memory:", code=2)
