"""What all tests need."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator

import hypothesis
import pytest

from dynalayer.eventlog.sqlite_file import SQLiteFile

pytest_plugins = ["servers", "s3_servers", "strangers", "environments"]

# So that the assertions of the kits show the values that they compare.
pytest.register_assert_rewrite("dynalayer.testing")


# An example takes as long as the machine is busy.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")

_CONNECT = SQLiteFile._connect


@pytest.fixture(scope="session", autouse=True)
def unflushed() -> Iterator[None]:
    """What is written outlives the process that wrote it; only a power cut would need the flush, which takes long.

    Tests of what is flushed, and when, see the calls as ever, and processes that tests start do flush.
    """

    def connect(file: SQLiteFile) -> sqlite3.Connection:
        connection = _CONNECT(file)
        connection.execute("PRAGMA synchronous = OFF")
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteFile, "_connect", connect)
        patch.setattr(os, "fsync", os.fstat)  # an error, too, where there is no such file
        yield


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of how SQLite's connections are made."""
    monkeypatch.setattr(SQLiteFile, "_connect", _CONNECT)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What may take longest begins first, so that in the end no process waits for another."""
    items.sort(key=lambda item: item.get_closest_marker("timeout") is None)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what tests recorded with `record_property`: figures are worth seeing also where all is well."""
    recorded = [
        f"{name}: {value}"
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in report.user_properties
    ]
    if recorded:
        terminalreporter.section("recorded")
        for line in recorded:
            terminalreporter.write_line(line)
