"""Segments as Parquet files below a folder, one folder a table and in it one a partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynalayer import (
    URL,
    Capabilities,
    ConfigurationError,
    Segment,
    StorageError,
    checked_s3_access,
    checked_s3_prefix,
    checked_s3_writing,
    hookimpl,
    safe_name,
)
from dynalayer.columns import Columns, SegmentColumns
from dynalayer_parquet.credentials import refuse_credentials, refuse_secrets
from dynalayer_parquet.failures import S3
from dynalayer_parquet.files import ParquetColumns, read_segment, write_columns
from dynalayer_parquet.stores import Store

if TYPE_CHECKING:
    import fsspec

__all__ = ["ParquetAdapter"]

_SUFFIX = ".parquet"
_ACCESS = frozenset({"endpoint_url", "region"})
_WRITING = frozenset({"kms_key_id", "sse", "storage_class"})


class ParquetAdapter:
    """Keeps segments in Parquet files, on any file system of fsspec's.

    A base is a plain table for whoever reads Parquet: a column an attribute, and beside them `$id` and `$item`, which
    bring items back exactly.

    Args:
        root: Where: `s3://bucket/prefix`, `file:///folder`, `memory://name`; a folder of each table's own is below it.
        table: The layer's table.
        storage_options: What fsspec makes the file system with.
        filesystem: A file system of one's own, in place of that.

    Raises:
        PluginLoadError: The file system's package is not installed.
        ConfigurationError: There is no such file system, an option is wrong, or a URL holds credentials.
        StorageError: The file system connects at once, and could not.
    """

    name = "parquet"
    capabilities = Capabilities(columns=True)

    def __init__(
        self,
        root: str,
        table: str,
        *,
        storage_options: Mapping[str, Any] | None = None,
        filesystem: fsspec.AbstractFileSystem | None = None,
    ) -> None:
        protocol, separator, place = root.partition("://")
        if not separator:
            raise ConfigurationError("storage: root is a URL as s3://bucket/prefix or file:///folder")
        if filesystem is not None and storage_options is not None:
            raise ConfigurationError("storage: a file system of your own takes no storage_options")
        refuse_credentials(root, storage_options or {})
        self._store = Store(protocol, root, storage_options or {}, filesystem)
        if not self._store.root:
            raise ConfigurationError(f"storage: {root} names no place below which to keep segments")
        if protocol in S3:
            bucket, _, prefix = place.partition("/")
            checked_s3_prefix(bucket, prefix)
        self._root = f"{self._store.root}/{safe_name(table)}"

    def __repr__(self) -> str:
        return f"ParquetAdapter({self._store.url(self._root)!r})"

    @classmethod
    def from_url(cls, url: URL, table: str) -> ParquetAdapter:
        """`parquet+s3://bucket/prefix`, `parquet+file:folder`, or another file system of fsspec's after the `+`.

        Options of S3: `endpoint_url`, `region`, `storage_class`, `sse`, `kms_key_id`. Those of any other file system go
        to it as they are, but for credentials.
        """
        if not url.inner:
            raise ConfigurationError(
                "storage: say where after a +, as in parquet+file:folder or parquet+s3://bucket/prefix"
            )
        if url.inner in ("file", "local"):
            url.refuse_options()
            path = Path(url.path(what="storage"))
            if path.exists() and not path.is_dir():
                raise ConfigurationError(f"storage: {path} is a file; {url.scheme}: keeps its segments in a folder")
            return cls(f"file://{path}", table)
        root = f"{url.inner}://{url.location.removeprefix('//')}"
        if url.inner in S3:
            url.refuse_options(_ACCESS | _WRITING)
            return cls(root, table, storage_options=_s3_options(url.options))
        refuse_secrets(url.options)
        return cls(root, table, storage_options=url.options)

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """Store a segment."""
        return self.layer_columns_setter(partition, SegmentColumns(segment))

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """Load a segment."""
        path = self._path(partition, ref)
        return read_segment(self._store.read(path), self._store.url(path))

    @hookimpl
    def layer_columns_setter(self, partition: str, columns: Columns) -> str:
        """Store a segment given by columns."""
        ref = f"{columns.header.name}{_SUFFIX}"
        with self._store.written(self._path(partition, ref)) as file:
            write_columns(file, columns)
        return ref

    @hookimpl
    def layer_columns(self, partition: str, ref: str) -> Columns:
        """Open a segment by columns."""
        path = self._path(partition, ref)
        return ParquetColumns(self._store.open(path), self._store.url(path))

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        """Remove a segment."""
        self._store.remove(self._path(partition, ref))
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        """List segments."""
        return self._store.names(self._folder(partition), _SUFFIX)

    @hookimpl
    def layer_closed(self) -> None:
        """Give the connections back that are the adapter's own."""
        self._store.close()

    def _folder(self, partition: str) -> str:
        return f"{self._root}/{safe_name(partition)}"

    def _path(self, partition: str, ref: str) -> str:
        if "/" in ref or "\\" in ref or not ref.removesuffix(".part").endswith(_SUFFIX):
            raise StorageError(f"{ref!r} is no ref of this adapter")
        return f"{self._folder(partition)}/{ref}"


def _s3_options(options: Mapping[str, str]) -> dict[str, Any]:
    """An S3 URL's options as s3fs takes them."""
    access = {key: value for key, value in options.items() if key in _ACCESS}
    writing = {key: value for key, value in options.items() if key in _WRITING}
    return {
        "client_kwargs": checked_s3_access(**access),
        "s3_additional_kwargs": checked_s3_writing(**writing),
        # Some servers give a range the checksum of the whole; pages have checksums of their own.
        "config_kwargs": {"response_checksum_validation": "when_required"},
    }
