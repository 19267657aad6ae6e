"""Segments as files: written whole and durably or not at all, and never changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from dynalayer import (
    URL,
    Capabilities,
    ConfigurationError,
    DurableFiles,
    Segment,
    SegmentMissingError,
    StorageError,
    file_failure,
    hookimpl,
    safe_name,
)

__all__ = ["LocalAdapter"]

_SUFFIX = ".segment"


class LocalAdapter:
    """Keeps segments in files below a folder, one folder a partition.

    A segment is a file of its own, and on the disk before its ref is returned: a crash or a power cut leaves a whole
    segment or none.

    Args:
        root: The folder; made with the first segment. Give each layer its own (a URL does so by itself).
    """

    name = "local"
    capabilities = Capabilities()

    def __init__(self, root: str | Path) -> None:
        self._files = DurableFiles(Path(root))

    def __repr__(self) -> str:
        return f"LocalAdapter({str(self._files.root)!r})"

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
        data = segment.to_bytes()
        try:
            with self._files.new(path) as file:
                file.write(data)
        except OSError as error:
            raise file_failure("write", path, error) from error
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
            raise file_failure("read", path, error) from error
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
            raise file_failure("remove", path, error) from error
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        """List segments, and what a crash left of one that was being written."""
        folder = self._folder(partition)
        try:
            return self._files.names(folder, _SUFFIX)
        except OSError as error:
            raise file_failure("list", folder, error) from error

    def _folder(self, partition: str) -> Path:
        return self._files.root / safe_name(partition)

    def _path(self, partition: str, ref: str) -> Path:
        if os.sep in ref or not ref.removesuffix(".part").endswith(_SUFFIX):
            raise StorageError(f"{ref!r} is no ref of this adapter")
        return self._folder(partition) / ref
