"""Whatever a user writes behind a command: it works, or one line says why; never a traceback."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dynalayer.cli import main
from program import InProcess

# Every command that only reads, writes below the working directory, and asks no network.
ODD = [
    *("", "-", "--", ".", "..", "/", "/dev/null", "a", "eu", "0", "1", "-1", "9" * 25, "9" * 5000, "1.5", "1e9", "nan"),
    *("\n", "é", "☃", "\udcff", "'", '"', "x" * 600, "%", "{}", "[]", "None", "true", "~"),
    *("memory:", "sqlite:", "sqlite:///x.db", "sqlite:///", "sqlite:/dev/null", "sqlite:///a%00b", "local:", "local:s"),
    *("local:///dev/null", "local://h/p", "local:%ff", "nope:x", "thread", "a://b:c@d", "//", "::", "?", "x?a=1&a=2"),
    *("parquet+file:p", "parquet+file:/dev/null", "parquet+memory:x", "parquet:", "parquet+:", "parquet+nope:x"),
    *("2026-01-31", "2026-01-31T12:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "1-3", "3-1"),
    *("file.jsonl", "file.json", "file.toml", "folder", "events.db", "snapshots", "missing/file.csv", "out.parquet"),
    *("csv", "jsonl", "parquet", "sk", "pk", "sk,pk", ",", "users", "__INITIAL__", "2026-01-01T00:00:00.000000Z"),
]
words = st.sampled_from(ODD) | st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), max_size=6)
# `demo` makes a layer of its own and takes a second; its one option is drawn for `new-adapter --into` as well.
NAMES = sorted(set(main.commands) - {"demo"})


@st.composite
def arguments(draw: st.DrawFn) -> list[str]:
    """A command with options that it has, of values that anybody might write."""
    name = draw(st.sampled_from(NAMES))
    given = [name]
    for parameter in draw(st.lists(st.sampled_from(main.commands[name].params), max_size=4)):
        if isinstance(parameter, click.Option):
            given.append(draw(st.sampled_from(parameter.opts)))
        if not getattr(parameter, "is_flag", False):
            given.append(draw(words))
    return [*given, *draw(st.lists(words, max_size=1))]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InProcess:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    program = InProcess(tmp_path)
    (tmp_path / "file.jsonl").write_text('{"type":"PUT","partition":"eu","id":"a","item":{"sk":"a"}}\n' * 2)
    (tmp_path / "file.json").write_text('[{"sk":"a"}]')
    (tmp_path / "file.toml").write_text("[layers.users]\nget_item_unique_identifier = 'sk'\n")
    (tmp_path / "folder").mkdir()
    layer = ("--table", "users", "--events", "sqlite:///events.db", "--storage", "local:snapshots")
    program.good("import", "file.jsonl", *layer, "--sync")
    return program


def told(program: InProcess, given: list[str], stdin: bytes = b"") -> int:
    """The exit code; on the way there stands no traceback, and of what went wrong something that says so."""
    done = program.run(*given, stdin=stdin)
    assert done.returncode in (0, 1, 2), given
    assert b"Traceback" not in done.stderr + done.stdout
    if done.returncode:
        assert done.stderr.strip() or b"wrong" in done.stdout, given
        assert len(done.stderr) < 20_000, given
    return done.returncode


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(arguments())
@example(["config", "--table", "\udcff"])
@example(["get", "\udcff", "--events", "sqlite:///events.db", "--table", "users"])
@example(["get", "eu", "--at-version", "9" * 25, "--events", "sqlite:///events.db", "--table", "users"])
@example(["history", "eu", "--after", "9" * 25, "--events", "sqlite:///events.db", "--table", "users"])
def test_whatever_is_written_behind_a_command_works_or_is_refused_in_words(
    program: InProcess, given: list[str]
) -> None:
    told(program, given)
