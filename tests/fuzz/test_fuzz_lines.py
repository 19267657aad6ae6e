"""Whatever stands in a file that is imported: it is taken, or the error names the line from which on nothing is."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dynalayer import Layer
from dynalayer.cli import taking
from mutations import memory_bounded, mutated
from program import InProcess

MB = 1024 * 1024
LAYER = ("--table", "users", "--events", "sqlite:///events.db", "--storage", "local:snapshots")
GUARD = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def line(number: int, **more: Any) -> str:
    item = {"sk": f"user-{number}", "n": number, "d": {"$decimal": "1.50"}, "f": 1.5, **more}
    return json.dumps({"type": "PUT", "partition": "eu", "id": f"user-{number}", "item": item})


GOOD = "\n".join(line(number, note="é\u2028") for number in range(6)).encode() + b"\n"
PIECES = st.sampled_from(
    [
        *('"', "{", "}", "[", "]", ",", ":", "\n", "\r\n", "\0", "\ufeff", "\\ud800", "\\", "null", "true", "NaN", "-"),
        *("Infinity", "1e999", "1e9999999999999999999", "1E-99999999999999999999", "9" * 5000, "-0", "0.1", "[" * 3000),
        *('{"a":' * 3000, '"type"', '"PUT"', '"item"', '"id"', '"x"', '"$decimal"', '"$set"', '"$int"', '"$bytes"'),
        *('{"type":"PUT","id":"x","item":{"n":', "}}", '{"type":"PUT","type":"DELETE","id":"x","item":{}}'),
        *('{"type":"PUT","id":"\\ud800","item":{}}', '{"type":"PUT","partition":"\\u0000","id":"\\u0000","item":{}}'),
    ]
)
FILES = st.one_of(
    mutated(GOOD),
    mutated(gzip.compress(GOOD, mtime=0)),
    st.binary(max_size=80),
    st.lists(PIECES, max_size=8).map(lambda parts: "".join(parts).encode()),
    st.lists(PIECES, max_size=3).map(lambda parts: GOOD + "".join(parts).encode() + b"\n" + GOOD),
)


def opened(folder: Path) -> Layer:
    return Layer(table="users", events=f"sqlite:///{folder / 'events.db'}", storage=f"local:{folder / 'snapshots'}")


def kept(folder: Path) -> list[tuple[str, int]]:
    """How many events of each partition are in the log, read round the program."""
    if not (folder / "events.db").exists():
        return []
    with opened(folder) as layer:
        return [(name, len(layer.history(name))) for name in layer.partitions()]


@pytest.fixture
def program(tmp_path: Path) -> InProcess:
    return InProcess(tmp_path)


def emptied(program: InProcess) -> None:
    for path in program.folder.glob("events.db*"):
        path.unlink()


@GUARD
@given(data=FILES, batch=st.sampled_from(["1", "2", "500"]))
@example(data=b"\xef\xbb\xbf" + GOOD, batch="500")
@example(data=GOOD.replace(b"\n", b"\r\n"), batch="500")
@example(data=b'{"type":"PUT","id":"x","item":{"n":1e9999999999999999999}}', batch="500")
def test_whatever_is_imported_is_taken_or_refused_from_a_line_on(program: InProcess, data: bytes, batch: str) -> None:
    emptied(program)
    with memory_bounded(16 * MB + 50 * len(data)):
        done = program.run("import", "-", *LAYER, "--batch", batch, stdin=data)
    assert done.returncode in (0, 1), data
    assert b"Traceback" not in done.stderr
    events = sum(count for _, count in kept(program.folder))
    if done.returncode == 0:
        assert done.stdout.startswith(f"{events} event".encode())
        return
    assert done.stderr.startswith(b"Error: ")
    assert b", line " in done.stderr
    lines = int(done.stderr.split(b"Lines taken before it: ")[1].split(b";")[0].replace(b",", b""))
    # Empty lines are no events; of the others before the one that is told all are in, and of those after it none is.
    assert events <= lines
    if data.startswith(GOOD):
        assert events >= 6


def test_a_line_without_an_end_fills_no_memory(program: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taking, "_LONGEST_LINE", 4 * MB)
    packed = gzip.compress(b'{"type":"PUT","id":"x","item":{"x":"' + b"0" * (100 * MB) + b'"}}', mtime=0)
    (program.folder / "bomb.jsonl.gz").write_bytes(packed)
    with memory_bounded(20 * MB):
        said = program.bad("import", "bomb.jsonl.gz", *LAYER)
    assert "bomb.jsonl.gz, line 1: " in said
    assert kept(program.folder) == []


# Caches that are taken over

CACHE = json.dumps([{"sk": f"user-{number}", "n": number, "f": 1.5, "x": "é"} for number in range(6)]).encode()
CACHES = st.one_of(
    mutated(CACHE),
    mutated(gzip.compress(CACHE, mtime=0)),
    st.binary(max_size=60),
    st.lists(PIECES, max_size=5).map(lambda parts: f'[{{"sk":"a","n":{"".join(parts)}}}]'.encode()),
)


@GUARD
@given(data=CACHES, floats=st.booleans())
@example(data=b'[{"sk":"a","n":1e9999999999999999999}]', floats=False)
@example(data=b'[{"sk":"a","n":1e9999999999999999999}]', floats=True)
@example(data=b'[{"sk":"a","n":' + b"9" * 5000 + b"}]", floats=False)
def test_whatever_is_taken_over_is_taken_whole_or_not_at_all(program: InProcess, data: bytes, floats: bool) -> None:
    emptied(program)
    options = ("--id-attribute", "sk", "--partition", "eu", *(["--floats"] if floats else []))
    with memory_bounded(16 * MB + 50 * len(data)):
        done = program.run("import-snapshot", "-", *LAYER, *options, stdin=data)
    assert done.returncode in (0, 1), data
    with opened(program.folder) as layer:
        items = layer.get("eu")
        assert layer.meta("eu").version == (1 if done.returncode == 0 else 0)
    if done.returncode:
        assert done.stderr.startswith(b"Error: <stdin>: ")
        assert items == []
    else:
        assert done.stdout.startswith(f"eu: {len(items)} item".encode())
