"""Files that any number of processes keep within a bound, and that anybody may lose at any moment.

A file is written under another name and renamed, so that none is seen half-written. What it takes is counted before it
is written, in a file that is locked for that, as it is while files get their names or make room: so all of them
together never take more than they may. When the count says that there is no room all files are counted anew, and those
that were used least recently removed.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LEAST_BYTES", "MOST_BYTES", "Shelf"]

logger = logging.getLogger("dynalayer.cache")

LEAST_BYTES = 1024 * 1024
MOST_BYTES = 2**50

_FOLDER = "segments-1"  # with the version of what is in it
_COUNT = "count"
_KEPT, _PART = ".kept", ".part"
_MOST_FILES = 32_768  # each is counted as its share of the room at least: that many are looked at at most
_LEFT = 0.75  # of the room, is what may stay when room is made: then it need not be made soon again
_ABANDONED = 3600  # seconds, after which nobody writes a part any more
_LOCK_TRIES, _LOCK_PAUSE = 40, 0.005  # seconds; then it is not kept: who holds the lock may have been stopped


class Shelf:
    """Files in a folder, within a bound. Whatever goes wrong is logged, once, and the file is not there.

    Args:
        folder: The folder.
        max_bytes: What the files may take.

    Attributes:
        folder: Where the files are: a folder below that one, which nobody else may read.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder / _FOLDER
        self._max_bytes = max_bytes
        self._least = max(1, max_bytes // _MOST_FILES)
        self._looked = False
        self._told = False

    def get(self, name: str) -> bytes | None:
        """A file's bytes, and it was used just now; None if it is not there."""
        path = self.folder / (name + _KEPT)
        try:
            self._check_folder()
            with path.open("rb") as file:
                data = file.read()
                with suppress(OSError):  # a disk that is read-only now
                    os.utime(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell("read", error)
            return None
        return data

    def put(self, name: str, content: Callable[[], bytes]) -> None:
        """Keep a file, if there is room or can be made."""
        try:
            data = content()
            weight = max(len(data), self._least)
            if weight > self._max_bytes:
                return
            part = self._reserved(weight)
            if part is None:
                return
            try:
                part.write_bytes(data)
                with self._counted() as count:
                    # Whoever counts anew would else miss a file that is given its name meanwhile.
                    if count is not None:
                        part.replace(self.folder / (name + _KEPT))
            finally:
                part.unlink(missing_ok=True)  # where it did not get it
        except Exception as error:  # noqa: BLE001 -- nothing that fails here may reach who reads
            self._tell("keep", error)

    def drop(self, name: str) -> None:
        """Remove a file, whether or not it is there."""
        try:
            (self.folder / (name + _KEPT)).unlink(missing_ok=True)
        except OSError as error:
            self._tell("remove", error)

    def _reserved(self, weight: int) -> Path | None:
        """An empty file to write, for which there is room; None if it cannot be had at once."""
        self._make_folder()
        with self._counted() as count:
            if count is None:
                return None
            taken = count.read() if self._looked else None  # after a power cut it may be of another time than the files
            if taken is None or taken + weight > self._max_bytes:
                taken, self._looked = self._make_room(weight), True
            if taken + weight > self._max_bytes:
                return None
            part = self.folder / f"{secrets.token_hex(8)}.{weight}{_PART}"
            # What fails from here on leaves too much counted, until room is made.
            count.write(taken + weight)
            os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            return part

    @contextmanager
    def _counted(self) -> Iterator[_Count | None]:
        """The count, which nobody else reads or writes meanwhile; None where somebody does."""
        descriptor = os.open(self.folder / _COUNT, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield _Count(descriptor) if _is_locked(descriptor) else None
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a process forked meanwhile has it open too
            os.close(descriptor)

    def _make_room(self, weight: int) -> int:
        """Count anew, and remove what was used least recently if there is no room; what is taken then."""
        found = sorted(self._files(), key=lambda file: file.used)
        taken = sum(file.weight for file in found)
        if taken + weight <= self._max_bytes:
            return taken
        wanted = min(int(self._max_bytes * _LEFT), self._max_bytes - weight)
        abandoned = time.time() - _ABANDONED
        for file in found:
            if taken <= wanted:
                break
            if file.path.suffix == _PART and file.used > abandoned:
                continue  # somebody writes it
            file.path.unlink(missing_ok=True)
            taken -= file.weight
        return taken

    def _files(self) -> Iterator[_File]:
        for entry in os.scandir(self.folder):
            if not entry.name.endswith((_KEPT, _PART)):
                continue
            with suppress(FileNotFoundError, ValueError):
                status = entry.stat(follow_symlinks=False)
                stated = int(entry.name.split(".")[1]) if entry.name.endswith(_PART) else status.st_size
                yield _File(Path(entry.path), max(stated, self._least), status.st_mtime)

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            self.folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
        self._check_folder()

    def _check_folder(self) -> None:
        """Refuse what others might have put there, or could read."""
        status = self.folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise PermissionError(f"{self.folder} is no folder that this user alone has access to")

    def _tell(self, what: str, error: Exception) -> None:
        if not self._told:
            self._told = True
            logger.warning(
                "the cache could not %s in %s, and goes on without: %s: %s",
                what,
                self.folder,
                type(error).__name__,
                error,
            )


@dataclass(frozen=True, slots=True)
class _File:
    """A file, what it counts, and when it was used."""

    path: Path
    weight: int
    used: float


class _Count:
    """How much is taken, in a file that is locked. Too much after a crash, never too little.

    Args:
        descriptor: The file.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> int | None:
        """How much; None if nobody knows."""
        text = os.pread(self._descriptor, 32, 0).strip()
        return int(text) if text.isdigit() else None

    def write(self, taken: int) -> None:
        """Take down how much."""
        # Of one width: a newer number covers all of an older one.
        os.pwrite(self._descriptor, f"{taken:020d}".encode(), 0)


def _is_locked(descriptor: int) -> bool:
    for attempt in range(_LOCK_TRIES):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE if attempt else 0)
        else:
            return True
    return False
