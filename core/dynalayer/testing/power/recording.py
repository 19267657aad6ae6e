"""What a program does to its files, written down in order, by a library that is loaded before the system's own."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dynalayer.errors import ConfigurationError

__all__ = ["Operation", "Recorder", "Recording"]

Kind = Literal["create", "make folder", "write", "truncate", "flush", "rename", "link", "remove"]

_KINDS: dict[bytes, Kind] = {
    b"C": "create",
    b"M": "make folder",
    b"W": "write",
    b"T": "truncate",
    b"S": "flush",
    b"R": "rename",
    b"L": "link",
    b"U": "remove",
}
_HEADER = struct.Struct("=QqIIc")
_SOURCE = Path(__file__).with_name("recorder.c")


@dataclass(frozen=True, slots=True)
class Operation:
    """One call that succeeded.

    Attributes:
        kind: What it did. `flush` is of a file or of a folder.
        path: On what, relative to the folder; `""` is the folder itself. Of a file that is written to: what it was
            called then.
        inode: Of what is made, written, truncated or flushed.
        number: Where it was written, or the size to which it was truncated.
        to: The new name, of a `rename` or `link`.
        data: What was written.
    """

    kind: Kind
    path: str
    inode: int = 0
    number: int = 0
    to: str = ""
    data: bytes = b""

    def __str__(self) -> str:
        where = {"write": f" {len(self.data)} bytes at {self.number}", "truncate": f" to {self.number}"}.get(self.kind)
        return f"{self.kind} {self.path or '.'}{where or (f' as {self.to}' if self.to else '')}"


@dataclass(frozen=True, slots=True)
class Recording:
    """What a program did below a folder.

    Attributes:
        inode: The folder's.
        operations: In the order in which they were done.
        before: How many of them stand for what was there before it began.
    """

    inode: int
    operations: tuple[Operation, ...]
    before: int = 0


class Recorder:
    """Runs programs and records what they do to files.

    Args:
        folder: Where the library is built; made when it is not there.

    Raises:
        ConfigurationError: This is not Linux, or no C compiler is found or it fails. `CC` in the environment names one.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc") or shutil.which("clang")
        if not sys.platform.startswith("linux") or compiler is None:
            raise ConfigurationError("recording what is written needs Linux and a C compiler (cc): install one")
        folder.mkdir(parents=True, exist_ok=True)
        self._library = folder.absolute() / "recorder.so"
        command = [compiler, "-O1", "-shared", "-fPIC", "-pthread", "-o", str(self._library), str(_SOURCE), "-ldl"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 -- a compiler
        if done.returncode:
            raise ConfigurationError(f"{compiler} could not build the recorder: {done.stderr.strip()[-500:]}")

    def run(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> Recording:
        """Run a program to its end.

        Processes that it starts are recorded too, each call in one piece; in which order two of them did something at
        once is not certain.

        Args:
            command: The program, not statically linked, and its arguments.
            folder: The folder below which it keeps its files. What is there already is on the disk: the recording
                begins with it, flushed.
            environment: What is added to this process's.
            timeout: Seconds.

        Raises:
            ConfigurationError: It ended with an error; what it said is in the message.
            subprocess.TimeoutExpired: It took too long, and was killed.
        """
        folder = folder.resolve()
        to = self._library.with_name(f"{folder.name}.recording")
        to.unlink(missing_ok=True)
        preloaded = {
            "LD_PRELOAD": str(self._library),
            "DYNALAYER_RECORD_FOLDER": str(folder),
            "DYNALAYER_RECORD_TO": str(to),
        }
        before = tuple(_there_already(folder, folder))
        done = subprocess.run(  # noqa: S603 -- the program that is to be recorded
            command,
            env={**os.environ, **(environment or {}), **preloaded},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise ConfigurationError(f"{command[0]} ended with {done.returncode}: {done.stderr.strip()[-4000:]}")
        return Recording(folder.stat().st_ino, (*before, *_operations(to.read_bytes(), folder)), len(before))


def _there_already(folder: Path, root: Path) -> Iterator[Operation]:
    for path in sorted(folder.iterdir()):
        name, inode = str(path.relative_to(root)), path.stat().st_ino
        if path.is_dir():
            yield Operation("make folder", name, inode)
            yield from _there_already(path, root)
        else:
            yield Operation("create", name, inode)
            yield Operation("write", name, inode, data=path.read_bytes())
            yield Operation("flush", name, inode)
    yield Operation("flush", "" if folder == root else str(folder.relative_to(root)), folder.stat().st_ino)


def _operations(data: bytes, folder: Path) -> Iterator[Operation]:
    begun = len(str(folder)) + 1
    position = 0
    while position < len(data):
        inode, number, first, second, letter = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        path = os.fsdecode(data[position : position + first])[begun:]
        rest = data[position + first : position + first + second]
        position += first + second
        kind = _KINDS[letter]
        if kind in ("rename", "link"):
            yield Operation(kind, path, to=os.fsdecode(rest)[begun:])
        else:
            yield Operation(kind, path, inode, number, data=rest)
