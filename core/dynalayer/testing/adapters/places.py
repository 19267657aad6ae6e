"""Where the kit works: a store, opened by its adapter, and its bytes round the adapter."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dynalayer.hookspecs import Adapter
from dynalayer.observing import Observers
from dynalayer.opening import StorageOption, open_storage
from dynalayer.optional import need
from dynalayer.plugins import new_manager

__all__ = ["Place", "Raw", "RawDict", "RawFiles", "RawFolder"]


@runtime_checkable
class Raw(Protocol):
    """A store's bytes, round the adapter: named contents, whatever they are in the store (files, objects, rows)."""

    def names(self) -> Sequence[str]:
        """The names of all that is stored, by whomever."""
        ...

    def read(self, name: str) -> bytes:
        """What stands under a name."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Put something under a name, in place of what was there."""
        ...

    def remove(self, name: str) -> None:
        """Take away what stands under a name."""
        ...


class RawDict:
    """The bytes of a store that keeps them in a mapping.

    Args:
        contents: The mapping.
    """

    def __init__(self, contents: MutableMapping[str, bytes]) -> None:
        self._contents = contents

    def names(self) -> Sequence[str]:
        """See `Raw`."""
        return sorted(self._contents)

    def read(self, name: str) -> bytes:
        """See `Raw`."""
        return self._contents[name]

    def write(self, name: str, data: bytes) -> None:
        """See `Raw`."""
        self._contents[name] = data

    def remove(self, name: str) -> None:
        """See `Raw`."""
        del self._contents[name]


class RawFolder:
    """The files below a folder, by their paths in it.

    Args:
        path: The folder; it may not be there yet.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def names(self) -> Sequence[str]:
        """See `Raw`."""
        return sorted(str(each.relative_to(self._path)) for each in self._path.rglob("*") if each.is_file())

    def read(self, name: str) -> bytes:
        """See `Raw`."""
        return (self._path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """See `Raw`."""
        path = self._path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def remove(self, name: str) -> None:
        """See `Raw`."""
        (self._path / name).unlink()


class RawFiles:
    """The files of a file system of fsspec's below a root, by their paths in it.

    Args:
        filesystem: The file system: `fsspec.filesystem("s3", …)`, for example.
        root: A folder of it, or a bucket and prefix.
    """

    def __init__(self, filesystem: Any, root: str) -> None:
        self._filesystem = filesystem
        self._root = root.rstrip("/")

    @classmethod
    def from_url(cls, url: str, **options: Any) -> RawFiles:
        """What a URL of fsspec's names: `s3://bucket/prefix`, `file:///folder`.

        Args:
            url: The URL.
            options: What fsspec makes the file system with.

        Raises:
            ConfigurationError: fsspec, or the package of the file system, is not installed.
        """
        needed = ("fsspec", "s3fs", "aiobotocore")
        need("s3fs" if url.startswith("s3:") else "fsspec", "raw access", packages=needed, install="dynalayer[parquet]")
        fsspec: Any = need("fsspec", "raw access", packages=needed, install="fsspec")
        filesystem, root = fsspec.core.url_to_fs(url, **options)
        return cls(filesystem, root)

    def names(self) -> Sequence[str]:
        """See `Raw`."""
        self._filesystem.invalidate_cache()
        try:
            found = self._filesystem.find(self._root)
        except FileNotFoundError:
            return ()
        return sorted(each[len(self._root) :].lstrip("/") for each in found)

    def read(self, name: str) -> bytes:
        """See `Raw`."""
        self._filesystem.invalidate_cache()
        return bytes(self._filesystem.cat_file(self._at(name)))

    def write(self, name: str, data: bytes) -> None:
        """See `Raw`."""
        path = self._at(name)
        self._filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._filesystem.pipe_file(path, data)

    def remove(self, name: str) -> None:
        """See `Raw`."""
        self._filesystem.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


@dataclass(frozen=True, slots=True)
class Place:
    """A store of its own, for one test.

    Attributes:
        open: Opens the adapter of a table: each time a new object over the same, at first empty, store, as a new
            process would open it.
        raw: The store's bytes, round the adapter; None where there is no access: what needs it is not tested.
        wrap: Wrappers to put around, outermost first, as a layer's `storage` takes them: the stack is tested as one
            adapter, and `raw` stays below it.
        table: The table that the kit works under; names that begin with it may be used as well.
        secrets: Texts that no repr and no error may show.
        copies: Whether the stack may answer from a copy that `raw` does not reach (a cache): then right items are as
            good an answer to damage as an error.
    """

    open: Callable[[str], Adapter]
    raw: Raw | None = None
    wrap: Sequence[StorageOption] = ()
    table: str = "users"
    secrets: Sequence[str] = ()
    copies: bool = False
    _opened: list[Adapter] = field(default_factory=list, init=False, repr=False)

    def storage(self, table: str | None = None) -> list[StorageOption]:
        """What a layer of a table is given for `storage`: the wrappers, and a new adapter object."""
        return [*self.wrap, self.open(self.table if table is None else table)]

    def adapter(self, table: str | None = None) -> Adapter:
        """The stack of a table as one new adapter object."""
        name = self.table if table is None else table
        self._opened.append(self._stack(name) if self.wrap else self.open(name))
        return self._opened[-1]

    def _stack(self, table: str) -> Adapter:
        """As a layer puts it together."""
        manager = new_manager()
        open_storage(self.storage(table), table, manager, Observers(manager, table))
        (stack,) = manager.get_plugins()
        return stack  # type: ignore[no-any-return] # it was just checked to be one

    def close(self) -> None:
        """Close what was opened."""
        while self._opened:
            closed = getattr(self._opened.pop(), "layer_closed", None)
            if closed is not None:
                closed()
