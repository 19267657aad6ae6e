"""A virtual environment with dynalayer as a user installs it, and strangers' distributions beside it.

It is made once a test run, by whichever process asks first: of wheels built from this checkout, with pip, as it is set
up on this machine. `strangers` gives it; `redis_server` gives a real server for the one that the docs write.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import servers
from program import InProcess

ROOT = Path(__file__).parents[1]
PATIENCE = 300.0  # seconds: an index may be slow

PYPROJECT = """
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"
[project]
name = "{distribution}"
version = "{version}"
[project.entry-points."dynalayer.adapters"]
{name} = "{package}:Adapter"
"""

BROKEN = {
    "dynalayer-broken": ("broken", "2.0", "import no_such_module_anywhere\n"),
    "dynalayer-greedy": ("parquet", "3.0", "class Adapter:\n    pass\n"),  # a name of ours
}
"""Distributions that are wrong: the adapter's name that they claim, their version, and all of their code."""


@dataclass(frozen=True)
class Strangers:
    """The environment.

    Attributes:
        folder: All of it: the environment in `venv`, the wheels in `wheels`, what they were built of in `source`.
    """

    folder: Path

    @property
    def bin(self) -> Path:
        return self.folder / "venv" / "bin"

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def run(self, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, which sees nothing of the one that runs the tests."""
        own = ("PYTHON", "PYTEST", "DYNALAYER", "VIRTUAL_ENV", "COV_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        path = f"{self.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return subprocess.run(
            command,
            cwd=cwd,
            env={**inherited, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def good(self, *command: str, cwd: Path, **environment: str) -> str:
        done = self.run(*command, cwd=cwd, **environment)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def python(self, code: str, *, cwd: Path, **environment: str) -> str:
        return self.good(str(self.bin / "python"), "-W", "error", "-c", code, cwd=cwd, **environment)

    def dynalayer(self, *arguments: str, cwd: Path, **environment: str) -> str:
        return self.good(str(self.bin / "dynalayer"), *arguments, cwd=cwd, **environment)

    def refused(self, *arguments: str, cwd: Path, **environment: str) -> str:
        done = self.run(str(self.bin / "dynalayer"), *arguments, cwd=cwd, **environment)
        assert done.returncode == 1, done.stdout
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture(scope="session")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Strangers:
    """The environment, with dynalayer, the adapter of `new-adapter shelf`, the example plugins, and broken ones."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of all the processes of this run
    made = Strangers(base / "strangers")
    with (base / "strangers.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        outcome = lock.read()
        if not outcome:
            try:
                make(made)
                outcome = "made"
            except AssertionError as error:  # told by each test that needs it, and not tried again for each
                outcome = str(error)
            lock.write(outcome)
    if outcome != "made":
        pytest.fail(f"the environment of strangers' distributions could not be made:\n{outcome}", pytrace=False)
    return made


def make(made: Strangers) -> None:
    made.source.mkdir(parents=True)
    InProcess(made.source).good("new-adapter", "shelf")
    shutil.copytree(ROOT / "docs" / "examples" / "plugin", made.source / "dynalayer-notify")
    for distribution, (name, version, code) in BROKEN.items():
        package = distribution.replace("-", "_")
        folder = made.source / distribution
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(code)
        words = {"distribution": distribution, "version": version, "name": name, "package": package}
        (folder / "pyproject.toml").write_text(PYPROJECT.format(**words))
    built, wheels = [ROOT, *made.source.iterdir()], made.folder / "wheels"
    # Without isolation, since the back end is here already: one for each of them would be fetched and installed.
    wheel = ("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(wheels))
    made.good(sys.executable, "-m", "pip", *wheel, *map(str, built), cwd=made.folder)
    made.good(sys.executable, "-m", "venv", str(made.folder / "venv"), cwd=made.folder)
    # pytest is for their own tests, Redis' client for the distribution that the docs write.
    needed = (*map(str, sorted(wheels.iterdir())), "pytest>=9", "redis>=5")
    made.good("python", "-m", "pip", "install", "--quiet", "--no-compile", *needed, cwd=made.folder)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[int]:
    """The port of a Redis server, started as docs/writing-an-adapter.md says; a test is skipped where there is none."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed: `make redis-server` says how to get it")
    page = (ROOT / "docs" / "writing-an-adapter.md").read_text()
    line = re.search(r"^\$ redis-server --port 6379 (.*) --daemonize yes$", page, re.MULTILINE)
    assert line, "the page no longer says how its server is started"
    with served(line[1].split()) as port:
        yield port


@contextmanager
def served(options: list[str]) -> Iterator[int]:
    """A Redis server of its own, with these options."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as log:
        for _ in range(servers.TRIES):
            port = servers.free_port()
            own = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, *options]
            process = servers.start_watched(["redis-server", *own], log)
            try:
                if ready(process, Path(folder), port):
                    yield port
                    return
            finally:
                servers.stop(process)
        log.seek(0)
        pytest.fail(f"redis-server did not start:\n{log.read().decode(errors='replace')[-4000:]}", pytrace=False)


def ready(process: subprocess.Popen[bytes], folder: Path, port: int) -> bool:
    """Wait until the server answers, and is the one that was started: it says which folder is its own."""
    until = time.monotonic() + servers.PATIENCE
    while time.monotonic() < until and process.poll() is None:
        if str(folder.resolve()) in asked(port, "CONFIG GET dir"):
            return True
        time.sleep(0.02)
    return False


def asked(port: int, command: str) -> str:
    """What a server answers to a plain command; nothing where there is none."""

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(f"{command}\r\n".encode())
            return connection.recv(4096).decode()
    except OSError:
        return ""


def table(text: str) -> Mapping[str, Mapping[str, str]]:
    """What `dynalayer plugins --json` tells, by name and distribution."""
    return {f"{each['name']} of {each['distribution']}": each for each in json.loads(text)["plugins"]}
