"""The command line, for tests: the installed program, as a user meets it, or in this process, which is quicker.

The installed program is a process of its own. `fresh` starts an interpreter for it too, which takes many times longer:
each kind of log and storage has tests that do, so that no command relies on what another has imported.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

from click.testing import CliRunner

import warm
from dynalayer.cli import main


class Program:
    """The installed program, run in a folder."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("dynalayer", path=str(Path(sys.executable).parent))
        assert found, "the command line is not installed beside this Python"
        self.path = found
        self.folder = folder

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        given = os.environ | dict(environment or {})
        return warm.run(self.path, arguments, folder=self.folder, environment=given, stdin=stdin, fresh=fresh)

    def good(self, *arguments: str, stdin: bytes = b"", fresh: bool = False) -> str:
        done = self.run(*arguments, stdin=stdin, fresh=fresh)
        assert done.returncode == 0, done.stderr.decode()
        assert done.stderr == b""
        return done.stdout.decode()

    def bad(self, *arguments: str, stdin: bytes = b"", code: int = 1) -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == code, done.stdout.decode()
        assert b"Traceback" not in done.stderr
        return done.stderr.decode()

    def without(self, package: str) -> dict[str, str]:
        """An environment in which a package is not installed."""
        hidden = self.folder / "hidden" / package
        hidden.mkdir(parents=True)
        (hidden / "__init__.py").write_text(
            f"raise ModuleNotFoundError(\"No module named '{package}'\", name='{package}')\n"
        )
        return {"PYTHONPATH": str(hidden.parent)}


class _Input(io.BytesIO):
    name = "<stdin>"


class InProcess(Program):
    """The same commands, run in this process."""

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        with chdir(self.folder):
            done = CliRunner().invoke(main, arguments, input=_Input(stdin), env=environment)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout_bytes, done.stderr_bytes)
