"""Starts this project's programs without the second that an interpreter and its imports take.

One process for each test process has imported what they import, and done nothing else: it has no thread, no connection
and no open file. A program is forked from it, and is from there on what any other is: a process with its own standard
streams, folder, environment, exit code and signals. What depends on how an interpreter starts (`PYTHON…` variables, a
package that is missing, which modules a command imports by itself) is tested with a fresh one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from importlib import import_module
from pathlib import Path

PRELOADED = ("dynalayer.cli", "dynalayer.testing.faults", "dynalayer_local", "dynalayer_s3_json")
HEADER = struct.Struct("!I")
CODE = struct.Struct("!i")
SHARED = 4  # standard input, output and error, and where the exit code is told
PATIENCE = 60.0  # seconds for what takes milliseconds


# In the tests


class Started:
    """A program that was started; of `subprocess.Popen` what tests need."""

    def __init__(self, pid: int, ended: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended = ended

    def poll(self) -> int | None:
        return self._look(0)

    def wait(self, timeout: float) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def _look(self, timeout: float) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            told = os.read(self._ended, CODE.size)
            os.close(self._ended)
            assert told, "the process that programs are forked from is gone"
            (self.returncode,) = CODE.unpack(told)
        return self.returncode


class Server:
    """The process that programs are forked from; gone, and its programs with it, when this one is."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._control, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
            )
        self._control.settimeout(PATIENCE)

    def start(
        self, script: str, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], streams: list[int]
    ) -> Started:
        """Start a Python script, with descriptors that become its standard streams."""
        asked = json.dumps([[script, *arguments], str(folder), dict(environment)]).encode()
        ended, tells = os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._control, [HEADER.pack(len(asked))], [*streams, tells])
                self._control.sendall(asked)
                (pid,) = HEADER.unpack(exactly(self._control, HEADER.size))
        except BaseException:
            os.close(ended)
            raise
        finally:
            os.close(tells)
        return Started(pid, ended)

    def close(self) -> None:
        self._control.close()
        self._process.wait(PATIENCE)


@cache
def server() -> Server:
    """This process's; started when it is first asked for."""
    made = Server()
    atexit.register(made.close)
    return made


def start(script: Path | str, arguments: Sequence[str], *, errors: Path) -> Started:
    """Start a Python script that is given nothing and whose errors are added to a file."""
    with ExitStack() as stack:
        nothing = stack.enter_context(Path(os.devnull).open("r+b")).fileno()
        into = stack.enter_context(errors.open("ab")).fileno()
        streams = [nothing, nothing, into]
        return server().start(str(script), arguments, folder=Path.cwd(), environment=os.environ, streams=streams)


def run(
    script: Path | str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    stdin: bytes = b"",
    fresh: bool = False,
    timeout: float = 120,
) -> subprocess.CompletedProcess[bytes]:
    """Run a Python script to its end; a fresh one, or one whose interpreter is to start otherwise, by `subprocess`."""
    if fresh or interpreters(environment) != interpreters(os.environ):
        command = [sys.executable, str(script), *arguments]
        return subprocess.run(command, cwd=folder, env=environment, input=stdin, capture_output=True, timeout=timeout)
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        reads, writes = os.pipe()
        feeder = threading.Thread(target=feed, args=(writes, stdin))
        feeder.start()
        try:
            streams = [reads, said.fileno(), errors.fileno()]
            started = server().start(str(script), arguments, folder=folder, environment=environment, streams=streams)
        finally:
            os.close(reads)
        try:
            code = started.wait(timeout)
        finally:
            started.kill()
            feeder.join()
        said.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess([str(script), *arguments], code, said.read(), errors.read())


def interpreters(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment counts when an interpreter starts."""
    return {name: value for name, value in environment.items() if name.startswith("PYTHON")}


def feed(descriptor: int, content: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as pipe:
        pipe.write(content)


# In the process that programs are forked from


def exactly(control: socket.socket, count: int) -> bytes:
    """That many bytes, or none where the other side is gone."""
    read = b""
    while len(read) < count:
        more = control.recv(count - len(read))
        if not more:
            return b""
        read += more
    return read


def serve(control: socket.socket) -> tuple[list[str], str, dict[str, str], list[int]] | None:
    """Fork what is asked for. Tells each fork what to become, and this process None when nobody asks any more."""
    died, dies = os.pipe()
    os.set_blocking(dies, False)
    signal.set_wakeup_fd(dies)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    running: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([control.fileno(), died], [], [])
        if died in ready:
            os.read(died, 4096)
            tell_the_dead(running)
        if control.fileno() not in ready:
            continue
        header, descriptors, _, _ = socket.recv_fds(control, HEADER.size, SHARED)
        if not header:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return None
        arguments, folder, environment = json.loads(exactly(control, *HEADER.unpack(header)))
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (died, dies, descriptors.pop(), *running.values()):
                os.close(each)
            return arguments, folder, environment, descriptors
        running[pid] = descriptors.pop()
        for each in descriptors:
            os.close(each)
        control.sendall(HEADER.pack(pid))


def tell_the_dead(running: dict[int, int]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with suppress(BrokenPipeError):
            os.write(running[pid], CODE.pack(os.waitstatus_to_exitcode(status)))
        os.close(running.pop(pid))


def main() -> None:
    import servers  # noqa: PLC0415 -- it stands beside this file, which the tests know by another way

    for name in PRELOADED:
        import_module(name)
    servers.share_models()
    # Made for nothing: what boto3 imports and reads when the first client is made, it has then.
    servers.dynamodb_client("http://127.0.0.1:1").close()
    servers.session.cache_clear()
    gc.collect()
    gc.freeze()  # else each fork would go through all of it when it ends
    with socket.socket(fileno=int(sys.argv[1])) as control:
        asked = serve(control)
    if asked is None:
        return
    arguments, folder, environment, streams = asked
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    sys.argv[:] = arguments
    sys.path[0] = str(Path(arguments[0]).parent)
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
