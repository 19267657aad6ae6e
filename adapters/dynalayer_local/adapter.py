"""Segments as files: written whole and durably or not at all, and never changed."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path

from dynalayer import (
    URL,
    Capabilities,
    ConfigurationError,
    Segment,
    SegmentMissingError,
    StorageError,
    hookimpl,
    safe_name,
)

__all__ = ["LocalAdapter"]

_SUFFIX = ".segment"
_PART = ".part"
_ABANDONED_SECONDS = 24 * 3600
_REMEMBERED_FOLDERS = 10_000


class LocalAdapter:
    """Keeps segments in files below a folder, one folder a partition.

    A segment is written to a file of its own, flushed to the disk, given its name, and the name flushed too, before
    its ref is returned: a crash or a power cut leaves a whole segment or none.

    Args:
        root: The folder; made with the first segment. Give each layer its own (a URL does so by itself).
    """

    name = "local"
    capabilities = Capabilities()

    def __init__(self, root: str | Path) -> None:
        # Absolute, so that the process may change its folder afterwards.
        self._root = Path(root).absolute()
        # What lies above is not ours to make durable, unless it is made here.
        self._durable = {folder for folder in self._root.parents if folder.is_dir()}

    def __repr__(self) -> str:
        return f"LocalAdapter({str(self._root)!r})"

    @classmethod
    def from_url(cls, url: URL, table: str) -> LocalAdapter:
        """`local:relative/path` or `local:///absolute/path`; each table gets a folder of its own below it."""
        url.refuse_options()
        path = Path(url.path(what="storage"))
        if path.exists() and not path.is_dir():
            raise ConfigurationError(f"storage: {path} is a file; {url.scheme}: keeps its segments in a folder")
        return cls(path / safe_name(table))

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """Store a segment."""
        folder = self._folder(partition)
        path = folder / f"{segment.name}{_SUFFIX}"
        try:
            self._make_durable(folder)
            _write(path, segment.to_bytes())
        except OSError as error:
            raise _failure("write", path, error) from error
        return path.name

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """Load a segment."""
        path = self._path(partition, ref)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise SegmentMissingError(f"there is no file {path}") from error
        except OSError as error:
            raise _failure("read", path, error) from error
        return Segment.from_bytes(data, source=str(path))

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        """Remove a segment."""
        path = self._path(partition, ref)
        try:
            path.unlink(missing_ok=True)
        except NotADirectoryError:
            return True
        except OSError as error:
            raise _failure("remove", path, error) from error
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        """List segments, and what a crash left of one that was being written."""
        folder = self._folder(partition)
        try:
            return [entry.name for entry in os.scandir(folder) if _is_listed(entry)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _failure("list", folder, error) from error

    def _make_durable(self, folder: Path) -> None:
        """Make a folder and those above it, flushed once by this object also where they are there already.

        Whoever made them may have died before flushing.
        """
        if folder in self._durable and folder.is_dir():
            return
        if folder.parent != folder:
            self._make_durable(folder.parent)
            folder.mkdir(exist_ok=True)
            _flush_folder(folder.parent)
        if len(self._durable) >= _REMEMBERED_FOLDERS:
            self._durable.clear()
        self._durable.add(folder)

    def _folder(self, partition: str) -> Path:
        return self._root / safe_name(partition)

    def _path(self, partition: str, ref: str) -> Path:
        if os.sep in ref or not ref.endswith((_SUFFIX, _PART)):
            raise StorageError(f"{ref!r} is no ref of this adapter")
        return self._folder(partition) / ref


def _is_listed(entry: os.DirEntry[str]) -> bool:
    """A younger part may be somebody's who is writing it."""
    if entry.name.endswith(_PART):
        try:
            return entry.stat().st_mtime < time.time() - _ABANDONED_SECONDS
        except FileNotFoundError:  # it was given its name meanwhile
            return False
    return entry.name.endswith(_SUFFIX)


def _write(path: Path, data: bytes) -> None:
    """Write a new file durably, or leave nothing under its name."""
    part = path.with_name(path.name + _PART)
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failure(what: str, path: Path, error: OSError) -> StorageError:
    advice = {
        errno.ENOSPC: "; the disk is full: make room and try again, what was there is whole",
        errno.EDQUOT: "; the disk quota is used up: make room and try again, what was there is whole",
        errno.EACCES: f"; grant this user the right to {what} it",
        errno.EPERM: f"; grant this user the right to {what} it",
        errno.EROFS: "; the file system is mounted read-only",
        errno.ENOTDIR: "; a part of the path is a file",
    }.get(error.errno or 0, "")
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return StorageError(f"could not {what} {path}: {error.strerror or error}{advice}", retryable=full)
