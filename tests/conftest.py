"""What all tests need."""

from __future__ import annotations

import pytest

pytest_plugins = ["servers", "s3_servers", "strangers", "environments"]

# So that the assertions of the kits show the values that they compare.
pytest.register_assert_rewrite("dynalayer.testing")


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
