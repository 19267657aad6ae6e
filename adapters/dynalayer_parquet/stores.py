"""Files of one fsspec file system: read by ranges, written whole and durably or not at all."""

from __future__ import annotations

import io
import os
import selectors
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar
from weakref import WeakSet

import fsspec
from fsspec.asyn import sync

from dynalayer import ConfigurationError, DurableFiles, LayerError, PluginLoadError, SegmentMissingError, StorageError
from dynalayer_parquet.credentials import Mask
from dynalayer_parquet.failures import LOCAL, failure, has_no_range, temporary_failure, unmade

__all__ = ["Store"]

T = TypeVar("T")

_PATIENCE = 5  # seconds, for connections to close
_MADE: WeakSet[fsspec.AbstractFileSystem] = WeakSet()


def _leave_to_the_parent() -> None:
    """Have nothing that a forked child throws away take a connection from its parent.

    fsspec makes a child an event loop of its own. What its parent's loop waits on is shared, though: a connection that
    is closed in the child, be it by the garbage collector, would be taken off it, and the parent wait for ever.
    """
    for loop in {getattr(made, "_loop", None) for made in _MADE}:
        if isinstance(getattr(loop, "_selector", None), selectors.BaseSelector):
            loop._selector = selectors.DefaultSelector()  # type: ignore[union-attr]  # noqa: SLF001 -- no public word


os.register_at_fork(after_in_child=_leave_to_the_parent)


class Store:
    """Files below a root.

    Args:
        protocol: fsspec's name of the file system: `file`, `s3`, `memory`, `gs` …
        root: The folder, or bucket and prefix, as that file system writes it.
        options: What fsspec makes the file system with.
        filesystem: One that the user made, in place of that.

    Raises:
        PluginLoadError: The file system's package is not installed.
        ConfigurationError: There is no such file system, or the options are wrong.
        StorageError: It connects at once, and could not.
    """

    def __init__(
        self, protocol: str, root: str, options: Mapping[str, Any], filesystem: fsspec.AbstractFileSystem | None = None
    ) -> None:
        self.protocol = protocol
        self._url, self._options = root, dict(options)
        self._mask = Mask(options)
        self._host = ""
        self._own = filesystem is None
        self._process = os.getpid()
        made = self._make() if filesystem is None else filesystem
        self._made: fsspec.AbstractFileSystem | None = made
        self.root = str(made._strip_protocol(root)).rstrip("/")  # noqa: SLF001 -- fsspec has no public word for it
        # fsspec flushes nothing to the disk.
        self._local = DurableFiles(Path(self.root)) if protocol in LOCAL else None

    def _make(self) -> fsspec.AbstractFileSystem:
        try:
            kind = fsspec.get_filesystem_class(self.protocol)
            located = kind._get_kwargs_from_urls(self._url)  # noqa: SLF001 -- fsspec has no public word for it
            if "host" in located:  # it is no part of the paths
                self._host = self._url.partition("://")[2].partition("/")[0]
            # Its listings are not remembered: other processes write too.
            made = kind(use_listings_cache=False, skip_instance_cache=True, **{**located, **self._options})
        except ImportError as error:
            raise PluginLoadError(
                f"the file system {self.protocol!r} needs a package that is not installed: {error}"
            ) from error
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"storage: no file system {self.protocol!r} can be made: {self._mask.all(str(error))}"
            ) from None  # which may repeat an option's value
        except Exception as error:  # noqa: BLE001 -- raised anew; those that connect at once have errors of their own
            raise unmade(self.protocol, error, self._mask) from self._mask.cause(error)
        _MADE.add(made)
        return made

    @property
    def _fs(self) -> fsspec.AbstractFileSystem:
        if self._made is not None and self._process == os.getpid():
            return self._made
        if not self._own:
            raise StorageError(
                f"the {self.protocol} file system given was made in another process, whose connections this one must "
                "not use; make an adapter with one of its own after the fork"
            )
        made = self._make()
        self._made, self._process = made, os.getpid()
        return made

    def close(self) -> None:
        """Give connections back, but those of the user's own file system. The next request makes one anew."""
        made, of_this_process = self._made, self._process == os.getpid()
        if self._own:
            self._made = None
            if made is not None and of_this_process:
                _disconnect(made)

    def _forget(self) -> None:
        """Let the file system be made anew: credentials may have run out, and that looks for them again."""
        if self._own:
            self._made = None

    def url(self, path: str) -> str:
        """What people call a file."""
        return f"{self.protocol}://{self._host}{path}"

    def read(self, path: str) -> bytes:
        """A file's bytes, in one request.

        Raises:
            SegmentMissingError: There is none.
            StorageError: It cannot be read.
        """
        return self._call("read", path, lambda: self._whole(path))

    def _whole(self, path: str) -> bytes:
        try:
            # From 0 on rather than whole: of a whole one s3fs asks the size first.
            return bytes(self._fs.cat_file(path, start=0))
        except Exception as error:
            if not has_no_range(error):
                raise
            return bytes(self._fs.cat_file(path))

    def open(self, path: str) -> io.RawIOBase:
        """A file to read ranges of; errors as `read`, then and later."""
        size = int(self._call("read", path, lambda: self._fs.info(path)["size"]))
        return _Ranges(size, lambda start, end: self._range(path, size, start, end))

    def _range(self, path: str, size: int, start: int, end: int) -> bytes:
        data = self._call("read", path, lambda: bytes(self._fs.cat_file(path, start=start, end=end)))
        if len(data) == end - start:
            return data
        if len(data) == size:  # a server that knows no ranges gives the whole
            return data[start:end]
        raise StorageError(
            f"{self.url(path)}: asked for {end - start} bytes from {start} on, the store gave {len(data)}",
            retryable=True,
        )

    @contextmanager
    def written(self, path: str) -> Iterator[IO[bytes]]:
        """A local file to fill, which is stored under a path, durably, when the block ends well; else nothing is.

        Raises:
            StorageError: It cannot be stored.
        """
        if self._local is not None:
            with self._reported("write", path), self._local.new(Path(path)) as file:
                yield file
            return
        try:
            with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
                yield file
                file.flush()
                self._call("write", path, lambda: self._fs.put_file(file.name, path))
        except OSError as error:  # the store's own are none any more
            raise temporary_failure(error) from error

    def remove(self, path: str) -> None:
        """Remove a file, whether or not it is there."""
        with suppress(SegmentMissingError), self._reported("remove", path):
            self._fs.rm_file(path)

    def names(self, folder: str, suffix: str) -> list[str]:
        """Names of a folder's files that end so; none where there is no folder."""
        with suppress(SegmentMissingError), self._reported("list", folder):
            if self._local is not None:
                return self._local.names(Path(folder), suffix)
            self._fs.invalidate_cache(folder)
            names = [str(path).rpartition("/")[2] for path in self._fs.ls(folder, detail=False)]
            return [name for name in names if name.endswith(suffix)]
        return []

    def _call(self, what: str, path: str, call: Callable[[], T]) -> T:
        with self._reported(what, path):
            return call()

    @contextmanager
    def _reported(self, what: str, path: str) -> Iterator[None]:
        try:
            yield
        except LayerError:
            raise
        except Exception as error:  # noqa: BLE001 -- raised anew
            reported = failure(what, self.protocol, path, self.url(path), error, self._mask)
            if not isinstance(reported, SegmentMissingError):
                self._forget()
            raise reported from self._mask.cause(error)


class _Ranges(io.RawIOBase):
    """A file of a known size that is read by ranges."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self._size = size
        self._read = read
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        left = self._size - self._position
        count = left if size is None or size < 0 else min(size, left)
        data = self._read(self._position, self._position + count) if count > 0 else b""
        self._position += len(data)
        return data


def _disconnect(made: fsspec.AbstractFileSystem) -> None:
    """Close what a file system holds open: fsspec has no word for it, and most leave it to the garbage collector."""
    session = getattr(made, "_s3creator", None)  # of s3fs, once it has connected
    if session is not None:
        with suppress(Exception):
            sync(made.loop, session.__aexit__, None, None, None, timeout=_PATIENCE)
