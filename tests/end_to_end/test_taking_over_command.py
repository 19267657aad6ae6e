"""`dynalayer import-snapshot`, as a user meets it who moves from another program."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dynalayer import Layer
from program import InProcess, Program
from s3_servers import S3
from strategies import exactly

TAKE = ("import-snapshot", "--id-attribute", "sk")
USERS = b'[{"pk": "users", "sk": "user-2", "n": 12.50, "big": 1e3}, {"pk": "users", "sk": "user-1", "tags": ["x"]}]'


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return InProcess(tmp_path)


def write(program: Program, name: str, body: bytes) -> None:
    path = program.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)


def read(program: Program, partition: str, **options: Any) -> list[dict[str, Any]]:
    events, snapshots = program.folder / ".dynalayer/events.db", program.folder / ".dynalayer/snapshots"
    with Layer(table="items", events=f"sqlite:///{events}", storage=f"local://{snapshots}", **options) as layer:
        return layer.get(partition)


def test_a_folder_of_caches_becomes_partitions_that_are_called_as_their_paths(program: Program) -> None:
    write(program, "cache/users.json", USERS)
    write(program, "cache/tenants/eu.json.gz", gzip.compress(b'[{"sk": "a"}]'))
    write(program, "cache/.json", b"[]")
    write(program, "cache/readme.txt", b"not this one")
    told = program.good(*TAKE, "cache").splitlines()
    assert told == [
        "'': 0 items, 0 events folded on top",
        "tenants/eu: 1 item, 0 events folded on top",
        "users: 2 items, 0 events folded on top",
        "3 partitions taken over, 0 not",
    ]
    assert exactly(read(program, "users")) == exactly(
        [
            {"pk": "users", "sk": "user-1", "tags": ["x"]},
            {"pk": "users", "sk": "user-2", "n": Decimal("12.50"), "big": Decimal("1E+3")},
        ]
    )
    assert read(program, "tenants/eu") == [{"sk": "a"}]
    assert program.good("verify").endswith("0 wrong\n")


def test_events_go_on_where_the_cache_ends(program: Program) -> None:
    pending = json.dumps({"type": "PUT", "partition": "users", "item": {"pk": "users", "sk": "user-1"}}).encode()
    program.good("import", "-", "--id-attribute", "sk", stdin=pending)
    keys = ("--partition-attribute", "pk", "--partition", "users")
    assert "users: 2 items, 1 event folded on top\n" in program.good(*TAKE, "-", *keys, stdin=USERS)
    assert [item["sk"] for item in read(program, "users")] == ["user-1", "user-2"]
    assert read(program, "users")[0] == {"pk": "users", "sk": "user-1"}
    error = program.bad(*TAKE, "-", *keys, stdin=USERS)
    assert "<stdin>: it was taken over at version 2, with events folded on top, already" in error


def test_fractions_are_floats_where_that_is_asked_for(program: Program) -> None:
    program.good(*TAKE, "-", "--partition", "", "--floats", stdin=b'[{"sk": 1, "n": 1.50, "m": 3, "l": 1e2}]')
    assert exactly(read(program, "")) == exactly([{"sk": 1, "n": 1.5, "m": 3, "l": 100.0}])


def test_a_cache_that_cannot_be_taken_is_named_with_the_place_and_the_others_are_taken(program: Program) -> None:
    wrong = {
        "cut": (USERS[:50], "no JSON, or cut short: Expecting ':' delimiter: line 1 column 51 (char 50)"),
        "cut_gzip": (gzip.compress(USERS)[:40], "its gzip is truncated or damaged"),
        "empty": (b" \n", "it is empty; where a partition has no items that is []"),
        "infinite": (b'[{"sk": "a", "n": NaN}]', "no JSON, or cut short: NaN is no number"),
        "latin": (b'[{"sk": "\xe9"}]', "no JSON, or cut short: 'utf-8' codec can't decode byte 0xe9 in position"),
        "many": (b'[{"sk": "a"}, {"sk": "b", "n": ' + b"1" * 39 + b"}]", "item 1: attribute n: a whole number of"),
        "nameless": (b'[{"sk": "a"}, {"n": 1}]', "item 1: the item has no attribute 'sk', which is its identifier"),
        "object": (b'{"items": []}', "a cache is a JSON array of items; this is an object"),
        "small": (b'[{"sk": "a", "n": 1e-200}]', "item 0: attribute n: a Decimal outside"),
        "twice": (b'[{"sk": "1"}, {"sk": 1}]', "item 1: its identifier, '1', is that of item 0 too"),
        "word": (b'["sk"]', "item 0: an item is a dict of attributes, not str"),
    }
    for name, (body, _) in wrong.items():
        write(program, f"cache/{name}.json", body)
    write(program, "cache/users.json", USERS)
    done = program.run(*TAKE, "cache")
    assert done.returncode == 1
    assert done.stdout.decode().splitlines() == [
        "users: 2 items, 0 events folded on top",
        f"1 partition taken over, {len(wrong)} not",
    ]
    errors = done.stderr.decode().splitlines()
    for (name, (_, reason)), error in zip(wrong.items(), errors, strict=True):
        assert error.startswith(f"Error: cache/{name}.json: {reason}")
    assert program.good("status").count("\nusers ") == 1
    assert len(program.good("status").splitlines()) == 4


def test_a_partition_attribute_must_say_what_the_path_says(program: Program) -> None:
    write(program, "guests.json", USERS)
    error = program.bad(*TAKE, "guests.json", "--partition-attribute", "pk")
    assert "guests.json: item 0: it belongs to partition 'users', not to 'guests'" in error
    program.good(*TAKE, "guests.json", "--partition-attribute", "pk", "--partition", "users")


def test_what_cannot_be_found_is_told_before_anything_is_made(program: Program) -> None:
    write(program, "cache/users.json", USERS)
    write(program, "more/users.json", USERS)
    write(program, "none/readme.txt", b"")
    before = sorted(program.folder.rglob("*"))
    for sources, reason in (
        (["nowhere.json"], "nowhere.json: there is no such file or folder"),
        (["none"], "none: there is no file *.json below this folder"),
        (["-"], "name it with --partition"),
        (["cache", "more"], "cache/users.json and more/users.json are both of partition 'users'"),
        (["cache", "more/users.json", "--partition", "x"], "--partition 'x' names one, and there are 2 caches"),
        (["s3://bucket/cache?fast=1"], "knows no option 'fast'; known options: endpoint_url, region"),
        (["carrier-pigeon://x"], "Protocol not known: carrier-pigeon"),
        (["s3://user:secret@bucket/x"], "credentials"),
    ):
        error = program.bad(*TAKE, *sources)
        assert reason in error
        assert "secret" not in error
    assert "gone when the command ends" in program.bad(*TAKE, "cache", "--events", "memory:", code=2)
    assert sorted(program.folder.rglob("*")) == before


def test_caches_on_s3_are_taken_over_and_published_where_they_were(program: Program, moto_s3: S3) -> None:
    moto_s3.write("cache/users.json", USERS)
    moto_s3.write("cache/tenants/eu.json", b'[{"sk": "a"}]')
    moto_s3.write("cache/notes.txt", b"")
    source = moto_s3.url("cache/", scheme="s3")
    layer = ("--storage", moto_s3.url("cache", publish="true"))
    told = program.good(*TAKE, source, *layer)
    assert "tenants/eu: 1 item" in told
    assert "2 partitions taken over, 0 not" in told
    assert [item["sk"] for item in json.loads(moto_s3.read("cache/users.json"))] == ["user-1", "user-2"]
    event = json.dumps({"type": "DELETE", "partition": "users", "item": {"sk": "user-2"}}).encode()
    program.good("import", "-", "--sync", "--id-attribute", "sk", *layer, stdin=event)
    assert [item["sk"] for item in json.loads(moto_s3.read("cache/users.json"))] == ["user-1"]

    # What is published is such a cache itself, for another layer.
    one = moto_s3.url("cache/users.json", scheme="s3")
    assert "users: 1 item" in program.good(*TAKE, one, "--table", "copy")
    assert json.loads(program.good("get", "users", "--table", "copy"))["sk"] == "user-1"
    nothing = moto_s3.url("elsewhere/", scheme="s3")
    assert "there is nothing, or nothing called *.json below it" in program.bad(*TAKE, nothing)


@pytest.mark.parametrize("package", ["fsspec", "s3fs"])
def test_without_the_packages_for_a_url_it_says_what_to_install(tmp_path: Path, package: str) -> None:
    program = Program(tmp_path)
    done = program.run(*TAKE, "s3://bucket/cache/", environment=program.without(package))
    assert done.returncode == 1
    assert b"pip install 'dynalayer[parquet]'" in done.stderr
    assert b"Traceback" not in done.stderr
    (tmp_path / "eu.json").write_bytes(b'[{"sk": "a"}]')
    done = program.run(*TAKE, "eu.json", environment={"PYTHONPATH": str(tmp_path / "hidden")})
    assert done.stdout.startswith(b"eu: 1 item")
