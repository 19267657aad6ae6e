"""`dynalayer reset` and `dynalayer verify --against-source`, as a user meets them."""

from __future__ import annotations

import gzip
import json
import os
import pty
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import servers
from dynalayer import comparing
from program import InProcess, Program
from source_tables import fill, source_table

ITEMS = b'{"pk": "eu", "sk": "a", "n": {"$decimal": "1.50"}}\n\n{"pk": "us", "sk": "b"}\n'
CONFIG = """
[layers.users]
get_item_unique_identifier = "sk"
get_item_partition = "pk"
lease = 1
"""


@pytest.fixture
def program(tmp_path: Path) -> Program:
    (tmp_path / "dynalayer.toml").write_text(CONFIG)
    (tmp_path / "items.jsonl").write_bytes(ITEMS)
    return InProcess(tmp_path)


@pytest.fixture
def table(moto_server: str) -> Iterator[Any]:
    with source_table(moto_server) as table:
        yield table


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "_LOOKS", (0.0,))


def events(program: Program, *changes: dict[str, Any]) -> None:
    program.good("import", "-", stdin=b"".join(json.dumps(each).encode() + b"\n" for each in changes))


def test_a_file_of_items_makes_a_layer_and_comparing_finds_nothing(program: Program) -> None:
    done = program.run("reset", "--from-jsonl", "items.jsonl")
    assert (done.returncode, done.stdout) == (0, b"2 items taken, in 2 partitions\n")
    assert done.stderr.decode().splitlines() == [
        "reading the source: 2 items",
        "committing: 1 of 2 partitions, 1 items",
        "committing: 2 of 2 partitions, 2 items",
    ]
    assert program.good("get", "eu") == '{"n":{"$decimal":"1.50"},"pk":"eu","sk":"a"}\n'
    told = program.good("verify", "--against-source", "--from-jsonl", "items.jsonl")
    assert told.endswith("2 items of items.jsonl compared: 0 missing here, 0 missing there, 0 different\n")


def test_differences_are_told_and_end_with_exit_1(program: Program) -> None:
    program.good("reset", "--from-jsonl", "items.jsonl", "--quiet")
    events(
        program,
        {"type": "PUT", "item": {"pk": "eu", "sk": "a", "m\n": 1}},
        {"type": "PUT", "item": {"pk": "eu", "sk": "c"}},
        {"type": "DELETE", "item": {"pk": "us", "sk": "b"}},
    )
    done = program.run("verify", "--against-source", "--from-jsonl", "items.jsonl")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [
        "2 partitions, 2 segments and 4 records read; 0 wrong",
        "'eu': a: differs in 'm\\n', n",
        "'eu': c: missing in the source, it is here",
        "'us': b: missing here, the source has it",
        "2 items of items.jsonl compared: 1 missing here, 1 missing there, 1 different",
    ]
    assert program.run("verify", "us", "--against-source", "--from-jsonl", "items.jsonl").returncode == 1
    program.good("reset", "us", "--from-jsonl", "items.jsonl", "--quiet")
    program.good("verify", "us", "--against-source", "--from-jsonl", "items.jsonl")
    assert (
        "1 missing there, 1 different"
        in program.run("verify", "--against-source", "--from-jsonl", "items.jsonl").stdout.decode()
    )


def test_quiet_shows_nothing_but_the_result(program: Program) -> None:
    (program.folder / "items.gz").write_bytes(gzip.compress(ITEMS))
    assert program.good("reset", "eu", "--from-jsonl", "items.gz", "--quiet") == "1 item taken, in 1 partition\n"


def test_a_terminal_is_shown_bars(program: Program) -> None:
    installed = Program(program.folder)
    ours, theirs = pty.openpty()
    command = [installed.path, "reset", "--from-jsonl", "items.jsonl"]
    process = subprocess.Popen(
        command, cwd=program.folder, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    )
    os.close(theirs)
    said, _ = process.communicate(timeout=60)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert (process.returncode, said) == (0, b"2 items taken, in 2 partitions\n")
    assert b"reading the source" in shown
    assert b"committing  [####################################]  2/2" in shown


def test_the_layers_table_is_read_where_the_event_log_is(program: Program, table: Any, moto_server: str) -> None:
    fill(table, ({"pk": f"p{number % 3}", "sk": str(number)} for number in range(60)))
    client = servers.dynamodb_client(moto_server)
    with servers.fresh_table(client) as log:
        place = f"?region={servers.REGION}&endpoint_url={moto_server}"
        layer = ("--layer", "users", "--table", table.name, "--events", f"dynamodb://{log}{place}")
        assert program.good("reset", *layer, "--quiet") == "60 items taken, in 3 partitions\n"
        table.delete_item(Key={"pk": "p1", "sk": "1"})
        done = program.run("verify", "p1", *layer, "--against-source")
        assert done.returncode == 1
        assert "'p1': 1: missing in the source, it is here" in done.stdout.decode()
        assert program.good("reset", "p1", *layer, "--quiet") == "19 items taken, in 1 partition\n"
        told = program.good("verify", *layer, "--against-source", "--source", f"dynamodb://{table.name}{place}")
        assert f"59 items of dynamodb://{table.name} compared: 0 missing" in told
    client.close()


def test_a_fresh_program_reads_a_table(tmp_path: Path, table: Any, moto_server: str) -> None:
    (tmp_path / "dynalayer.toml").write_text(CONFIG)
    fill(table, [{"pk": "eu", "sk": "a"}])
    source = f"dynamodb://{table.name}?region={servers.REGION}&endpoint_url={moto_server}"
    installed = Program(tmp_path)
    told = installed.good("reset", "--table", table.name, "--source", source, "--quiet", fresh=True)
    assert told == "1 item taken, in 1 partition\n"


def test_what_cannot_be_taken_goes_where_it_is_asked_to(program: Program) -> None:
    (program.folder / "items.jsonl").write_bytes(ITEMS + b'{"pk": "eu", "name": "nobody"}\n')
    error = program.bad("reset", "--from-jsonl", "items.jsonl", "--quiet")
    assert "item {'pk': 'eu', 'name': 'nobody'} of items.jsonl cannot be taken: the item has no attribute 'sk'" in error
    assert "2 items were read before it, and nothing was changed" in error
    told = program.good("reset", "--from-jsonl", "items.jsonl", "--quiet", "--dead-letters", "dead.jsonl")
    assert told == "2 items taken, in 2 partitions\n1 item could not be taken: dead.jsonl has them\n"
    (letter,) = (program.folder / "dead.jsonl").read_text().splitlines()
    assert json.loads(letter)["item"] == {"pk": "eu", "name": "nobody"}
    done = program.run("verify", "--against-source", "--from-jsonl", "items.jsonl")
    assert (done.returncode, done.stdout.decode().splitlines()[-1]) == (
        1,
        "1 item of the source cannot be taken: reset tells which",
    )


def test_wrong_input_is_told_in_words_and_changes_nothing(program: Program, moto_server: str) -> None:
    events(program, {"type": "PUT", "item": {"pk": "eu", "sk": "old"}})
    (program.folder / "bad.jsonl").write_bytes(ITEMS + b'{"pk": "eu"')
    (program.folder / "list.jsonl").write_bytes(b"[1]\n")
    (program.folder / "cut.gz").write_bytes(gzip.compress(ITEMS * 100)[:60])
    place = f"?region={servers.REGION}&endpoint_url={moto_server}"
    missing = f"missing-{secrets.token_hex(4)}"
    for arguments, reason in (
        (("--from-jsonl", "nowhere"), "nowhere: there is no such file"),
        (("--from-jsonl", "."), ".: there is no such file"),
        (("--from-jsonl", "bad.jsonl"), "bad.jsonl, line 4: no JSON of an item"),
        (("--from-jsonl", "list.jsonl"), "list.jsonl, line 1: no JSON of an item: an item is a JSON object"),
        (("--from-jsonl", "cut.gz"), "cut.gz cannot be read after line"),
        (("--source", "users"), "is no URL"),
        (("--source", "dynamodb://others" + place), "the source is table 'others', and the layer is of table 'users'"),
        (("--source", f"dynamodb://{missing}{place}", "--table", missing), f"there is no table '{missing}'"),
        (("--source", "dynamodb://users?endpoint_url=http://key:secret@x"), "credentials"),
        (("--from-jsonl", "items.jsonl", "--spool", "no/spool"), "a file in one that is not there"),
        (
            ("--from-jsonl", "items.jsonl", "--spool", "dynalayer.toml"),
            "is no spool; name a file that is not there yet",
        ),
        (("--from-jsonl", "items.jsonl", "--dead-letters", "no/dead"), "a file in one that is not there"),
    ):
        error = program.bad("reset", "--quiet", *arguments)
        assert reason in error, arguments
        assert "secret" not in error
    usages: tuple[tuple[str, ...], ...] = (
        ("reset", "--source", "dynamodb://users", "--from-jsonl", "items.jsonl"),
        ("reset", "--from-jsonl", "items.jsonl", "--events", "memory:"),
        ("verify", "--source", "dynamodb://users"),
        ("verify", "--from-jsonl", "items.jsonl"),
    )
    for usage in usages:
        program.bad(*usage, code=2)
    assert program.good("get", "eu") == '{"pk":"eu","sk":"old"}\n'
    assert program.good("verify").endswith("0 wrong\n")


def test_a_second_reset_meanwhile_says_so(program: Program) -> None:
    from dynalayer import SQLiteEventLog, clock  # noqa: PLC0415 -- what the program itself imports when it needs it
    from dynalayer.reset_leases import ResetLease  # noqa: PLC0415 -- likewise

    program.good("reset", "--from-jsonl", "items.jsonl", "--quiet")
    with SQLiteEventLog(program.folder / ".dynalayer/events.db", "users") as log:
        lease = ResetLease(log, clock.now, "another", 3_600_000_000, None)
        assert lease.take()
        assert "another reset is at work, and nothing was done" in program.bad(
            "reset", "--from-jsonl", "items.jsonl", "--quiet"
        )
        lease.release()
        now = clock.now()
        log.lease("eu", "sync", now, now + 3_600_000_000)
        error = program.bad("reset", "--from-jsonl", "items.jsonl", "--quiet")
        assert "syncs are at work on 'eu': left as they were; run it again" in error
