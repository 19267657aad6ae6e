"""Segments as objects on S3: written whole or not at all, and never changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dynalayer import (
    URL,
    Capabilities,
    ConfigurationError,
    Item,
    Segment,
    checked_s3_access,
    checked_s3_prefix,
    checked_s3_writing,
    hookimpl,
)
from dynalayer_s3_json.connection import Connection
from dynalayer_s3_json.keys import SUFFIX, Keys
from dynalayer_s3_json.objects import Objects
from dynalayer_s3_json.publishing import Publisher

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["S3JSONAdapter"]

_OPTIONS = frozenset({"endpoint_url", "kms_key_id", "publish", "region", "sse", "storage_class"})


class S3JSONAdapter:
    """Keeps segments as objects in a bucket, below a prefix and there by table and partition.

    Nothing is asked before the first segment is set or got. S3 keeps an object whole or not at all, and gives and lists
    it as soon as it has said so.

    Args:
        bucket: The bucket's name; it must be there.
        prefix: What all keys begin with; a layer that publishes needs one of its own.
        table: The layer's table.
        client: A low-level boto3 client of one's own, whose retries are its own matter. Left out, one is made;
            credentials come from boto3's own chain in any case.
        region: Of the client that is made.
        endpoint_url: Likewise.
        storage_class: Of what is written: `STANDARD_IA`, `INTELLIGENT_TIERING`, …; left out, the bucket's.
        sse: How it is encrypted: `AES256` or `aws:kms`; left out, as the bucket says.
        kms_key_id: With which key, for `aws:kms`; left out, the account's default.
        publish: Whether each sync also puts all items of a partition, as a plain JSON array, at
            `{prefix}/{partition}.json`.

    Raises:
        ConfigurationError: An argument is wrong, or some do not go together.
    """

    name = "s3-json"

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        table: str,
        client: S3Client | None = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        storage_class: str | None = None,
        sse: str | None = None,
        kms_key_id: str | None = None,
        publish: bool = False,
    ) -> None:
        _check_client(client, region, endpoint_url)
        checked_s3_access(region=region, endpoint_url=endpoint_url)
        self._keys = Keys(checked_s3_prefix(bucket, prefix), table)
        self._connection = Connection(bucket, client=client, region=region, endpoint_url=endpoint_url)
        self._objects = Objects(
            self._connection, checked_s3_writing(storage_class=storage_class, sse=sse, kms_key_id=kms_key_id)
        )
        self._publisher = Publisher(self._objects, self._keys)
        self.capabilities = Capabilities(publishing=publish)

    def __repr__(self) -> str:
        return f"S3JSONAdapter({self._connection.location(self._keys.prefix)!r}, table={self._keys.table!r})"

    @classmethod
    def from_url(cls, url: URL, table: str) -> S3JSONAdapter:
        """`s3-json://BUCKET/PREFIX?region=…&endpoint_url=…&storage_class=…&sse=…&kms_key_id=…&publish=true`."""
        url.refuse_options(_OPTIONS)
        if url.inner or not url.location.startswith("//"):
            raise ConfigurationError("storage: write s3-json://BUCKET/PREFIX")
        options: dict[str, Any] = dict(url.options)
        publish = options.pop("publish", "false")
        if publish not in ("true", "false"):
            raise ConfigurationError(f"storage: publish={publish!r:.50} is neither true nor false")
        bucket, _, prefix = url.location[2:].partition("/")
        return cls(bucket, prefix, table=table, publish=publish == "true", **options)

    @hookimpl
    def layer_setter(self, partition: str, segment: Segment) -> str:
        """Store a segment."""
        ref = segment.name + SUFFIX
        self._objects.put(self._keys.segment(partition, ref), segment.to_bytes())
        return ref

    @hookimpl
    def layer_getter(self, partition: str, ref: str) -> Segment:
        """Load a segment."""
        key = self._keys.segment(partition, ref)
        return Segment.from_bytes(self._objects.get(key), source=self._connection.location(key))

    @hookimpl
    def layer_discard(self, partition: str, ref: str) -> bool:
        """Remove a segment."""
        self._objects.delete(self._keys.segment(partition, ref))
        return True

    @hookimpl
    def layer_list(self, partition: str) -> Sequence[str]:
        """List segments."""
        names = self._objects.names(self._keys.folder(partition))
        return [name for name in names if name.endswith(SUFFIX) and "/" not in name]

    @hookimpl
    def layer_publish(self, partition: str, origin: str, version: int, items: Mapping[str, Item]) -> bool:
        """Put a partition's plain array where other programs read it."""
        self._publisher.publish(partition, origin, version, items)
        return True

    @hookimpl
    def layer_closed(self) -> None:
        """Give the connections back that are the adapter's own."""
        self._connection.close()


def _check_client(client: object, region: str | None, endpoint_url: str | None) -> None:
    if client is not None:
        if region is not None or endpoint_url is not None:
            raise ConfigurationError(
                "storage: a client of one's own has its own region and endpoint_url; leave them out"
            )
        if not callable(getattr(client, "get_object", None)):
            raise ConfigurationError(
                f"storage: client is a low-level one, as boto3.client('s3') makes it, not {type(client).__name__}"
            )
