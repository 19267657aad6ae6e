"""`dynalayer export`: a partition for other programs."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from program import InProcess, Program

ITEMS: list[dict[str, Any]] = [
    {"sk": "a", "price": {"$decimal": "1.50"}, "raw": {"$bytes": "aGk="}, "tags": {"$set": ["x", "y"]}},
    {"sk": "b", "price": 7, "text": ""},
    {"sk": "c", "text": 'two,\n"lines"', "none": None},
]


@pytest.fixture(params=["local:snapshots", "parquet+file:snapshots"])
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(tmp_path: Path, storage: str) -> Program:
    """With a partition of which a part is folded and a part pending."""
    made = InProcess(tmp_path)
    events = [{"type": "PUT", "partition": "eu", "item": item} for item in (*ITEMS[:2], {"sk": "gone"})]
    later = [
        {"type": "PUT", "partition": "eu", "item": ITEMS[2]},
        {"type": "DELETE", "partition": "eu", "item": {"sk": "gone"}},
    ]
    for each, sync in ((events, ["--sync"]), (later, [])):
        lines = b"".join(json.dumps(event).encode() + b"\n" for event in each)
        made.good("import", "-", "--id-attribute", "sk", "--storage", storage, *sync, stdin=lines)
    return made


def test_each_format_says_what_is_there_now(program: Program, storage: str) -> None:
    layer = ("eu", "--storage", storage)
    lines = [json.loads(line) for line in program.good("export", *layer, "--format", "jsonl").splitlines()]
    assert lines == [
        {"sk": "a", "price": 1.5, "raw": "aGk=", "tags": ["x", "y"]},
        {"sk": "b", "price": 7, "text": ""},
        {"sk": "c", "text": 'two,\n"lines"', "none": None},
    ]
    told = program.good("export", *layer, "--format", "csv")
    rows = {row["sk"]: row for row in csv.DictReader(io.StringIO(told))}
    assert rows["a"] == {"sk": "a", "price": "1.50", "raw": "aGk=", "tags": '["x","y"]', "text": "", "none": ""}
    assert rows["c"]["text"] == 'two,\n"lines"'
    assert list(rows["b"]) == ["none", "price", "raw", "sk", "tags", "text"]
    assert ',"b",,""\n' in told  # a null is nothing, an empty text is quoted

    assert program.good("export", *layer, "--output", "out.parquet") == "3 items written to out.parquet\n"
    table = pq.read_table(program.folder / "out.parquet").to_pylist()
    assert {row["sk"]: row["raw"] for row in table} == {"a": b"hi", "b": None, "c": None}
    assert {row["sk"]: str(row["price"]) for row in table} == {"a": "1.50", "b": "7.00", "c": "None"}
    piped = program.run("export", *layer, "--format", "parquet").stdout
    assert pq.read_table(io.BytesIO(piped)).to_pylist() == table


def test_columns_are_those_asked_for_in_that_order(program: Program, storage: str) -> None:
    layer = ("eu", "--storage", storage, "--columns", "sk,price")
    assert sorted(program.good("export", *layer, "--format", "csv").splitlines()) == [
        '"a",1.50',
        '"b",7.00',
        '"c",',
        '"sk","price"',
    ]
    assert program.good("export", *layer, "--format", "jsonl").splitlines()[1:] == [
        '{"sk":"b","price":7}',
        '{"sk":"c"}',
    ]
    program.good("export", *layer, "--output", "out.PARQUET")
    assert pq.read_schema(program.folder / "out.PARQUET").names == ["sk", "price"]


def test_a_file_is_written_whole_or_not_at_all(program: Program, storage: str) -> None:
    layer = ("eu", "--storage", storage)
    out = program.folder / "out.csv"
    out.write_text("what was there before")
    for form in ("csv", "jsonl", "parquet"):
        error = program.bad("export", *layer, "--format", form, "--output", "out.csv", "--columns", "sk,pric")
        assert "'pric'; there are: price" in error
    assert out.read_text() == "what was there before"
    for segment in (program.folder / "snapshots").rglob("*.*"):
        segment.write_bytes(segment.read_bytes()[:-9])
    assert "corrupt" in program.bad("export", *layer, "--output", "out.csv")
    assert out.read_text() == "what was there before"
    assert [path.name for path in program.folder.glob("out*")] == ["out.csv"]


def test_a_file_that_cannot_be_written_is_told_with_the_reason(program: Program, storage: str) -> None:
    layer = ("eu", "--storage", storage)
    assert "its folder is not there" in program.bad("export", *layer, "--output", "no/out.csv", code=2)
    assert "is a folder" in program.bad("export", *layer, "--output", "snapshots", "--format", "csv", code=2)
    for form in ("csv", "jsonl", "parquet"):
        error = program.bad("export", *layer, "--output", "/dev/full", "--format", form)
        assert "could not write /dev/full: No space left on device" in error
        assert Path("/dev/full").is_char_device()
    (program.folder / "link.csv").symlink_to("kept.csv")
    program.good("export", *layer, "--output", "link.csv")
    assert (program.folder / "kept.csv").read_bytes() == (program.folder / "link.csv").read_bytes()
    assert (program.folder / "link.csv").is_symlink()


def test_the_format_must_be_told_by_the_ending_or_by_the_option(program: Program, storage: str) -> None:
    for output in ("-", "out", "out.xlsx"):
        error = program.bad("export", "eu", "--storage", storage, "--output", output, code=2)
        assert "add --format csv, jsonl, parquet" in error


def test_a_partition_without_items_is_a_file_without_rows(program: Program, storage: str) -> None:
    layer = ("never", "--storage", storage)
    assert program.good("export", *layer, "--format", "jsonl") == ""
    assert program.good("export", *layer, "--format", "csv", "--columns", "a,b") == '"a","b"\n'
    program.good("export", *layer, "--output", "out.parquet")
    assert pq.read_table(program.folder / "out.parquet").num_rows == 0


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_the_program_ends_quietly_when_nobody_reads_on(tmp_path: Path, form: str) -> None:
    program = Program(tmp_path)
    program.good("import", "-", stdin=b'{"type": "PUT", "id": "a", "item": {"n": 1}}')
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "wb") as nobody:  # noqa: PTH123 -- a descriptor
        done = subprocess.run(
            [program.path, "export", "--format", form],
            cwd=tmp_path,
            stdout=nobody,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.stderr == b""


def test_without_pyarrow_json_lines_are_written_and_the_others_say_what_to_install(tmp_path: Path) -> None:
    program = Program(tmp_path)
    hidden = program.without("pyarrow")
    program.good("import", "-", stdin=b'{"type": "PUT", "id": "a", "item": {"n": 1}}')
    done = program.run("export", "--format", "jsonl", environment=hidden)
    assert (done.stdout, done.stderr) == (b'{"n":1}\n', b"")
    for form in ("csv", "parquet"):
        done = program.run("export", "--output", f"out.{form}", environment=hidden)
        assert done.returncode == 1
        assert b"pip install 'dynalayer[parquet]'" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [".dynalayer", "hidden"]
