"""Files that are written whole and durably or not at all, for adapters that keep segments on this machine."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dynalayer.errors import StorageError
from dynalayer.passing import may_pass

__all__ = ["DurableFiles", "file_failure"]

_PART = ".part"
_ABANDONED_SECONDS = 24 * 3600
_REMEMBERED_FOLDERS = 10_000


class DurableFiles:
    """Files below a folder, which is made with the first of them.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        # Absolute, so that the process may change its folder afterwards.
        self.root = root.absolute()
        # What lies above is not ours to make durable, unless it is made here.
        self._durable = {folder for folder in self.root.parents if folder.is_dir()}

    @contextmanager
    def new(self, path: Path) -> Iterator[IO[bytes]]:
        """A file to fill, which gets its name when the block ends well; else nothing stands under the name.

        It is flushed to the disk, given its name, and the name flushed too, before the block is left: a crash or a
        power cut leaves a whole file or none.

        Raises:
            OSError: It cannot be written.
        """
        self.make_folder(path.parent)
        part = path.with_name(path.name + _PART)
        try:
            with part.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _flush(path.parent)

    def names(self, folder: Path, suffix: str) -> list[str]:
        """Names of a folder's files that end so, and of what a crash left of one that was being written.

        Raises:
            OSError: The folder cannot be read; one that is not there has no files.
        """
        try:
            return [entry.name for entry in os.scandir(folder) if _is_listed(entry, suffix)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def make_folder(self, folder: Path) -> None:
        """Make a folder, and those above it, so that a power cut takes none of them away.

        They are flushed once by this object also where they are there already: whoever made them may have died before
        that.

        Args:
            folder: The root, or one below it.

        Raises:
            OSError: It cannot be made.
        """
        if folder in self._durable and folder.is_dir():
            return
        if folder.parent != folder:
            self.make_folder(folder.parent)
            was_there = folder.is_dir()
            folder.mkdir(exist_ok=True)
            try:
                _flush(folder.parent)
            except PermissionError:
                if not was_there:  # what others keep, and let nobody list, is theirs to make durable
                    raise
        if len(self._durable) >= _REMEMBERED_FOLDERS:
            self._durable.clear()
        self._durable.add(folder)


def _is_listed(entry: os.DirEntry[str], suffix: str) -> bool:
    """A younger part may be somebody's who is writing it."""
    if entry.name.endswith(suffix + _PART):
        try:
            return entry.stat().st_mtime < time.time() - _ABANDONED_SECONDS
        except FileNotFoundError:  # it was given its name meanwhile
            return False
    return entry.name.endswith(suffix)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_failure(what: str, path: Path, error: OSError) -> StorageError:
    """The error for a file that the system refused, with what to do.

    Args:
        what: What was being done: `"write"`, `"read"`, `"remove"`, `"list"`.
        path: The file or folder.
        error: As the system raised it.
    """
    advice = {
        errno.ENOSPC: "; the disk is full: make room and try again, what was there is whole",
        errno.EDQUOT: "; the disk quota is used up: make room and try again, what was there is whole",
        errno.EACCES: f"; grant this user the right to {what} it",
        errno.EPERM: f"; grant this user the right to {what} it",
        errno.EROFS: "; the file system is mounted read-only",
        errno.ENOTDIR: "; a part of the path is a file",
    }.get(error.errno or 0, "")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(
        f"could not {what} {path}: {error.strerror or error}{advice}", retryable=full or may_pass(error)
    )
