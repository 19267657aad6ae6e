"""What may be asked of S3: places that other programs find too, and what is written such that it can be read at once.

The same for every adapter, whichever client it speaks through.
"""

from __future__ import annotations

import re
import unicodedata

from dynalayer.errors import ConfigurationError
from dynalayer.quoting import quoted
from dynalayer.urls import URL

__all__ = ["checked_s3_access", "checked_s3_prefix", "checked_s3_writing"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}")
_CLASS = re.compile(r"[A-Z0-9_]{1,63}")
_NOT_AT_ONCE = frozenset({"GLACIER", "DEEP_ARCHIVE"})
_ENCRYPTIONS = ("AES256", "aws:kms")
_MOST_PREFIX_BYTES = 500  # of 1,024 of a key; with it the longest partition, of 512 bytes, has its literal key


def checked_s3_prefix(bucket: str, prefix: str) -> str:
    """A prefix in a bucket, without the slash at its end.

    Raises:
        ConfigurationError: The bucket's name can be none; or the prefix is too long, or holds what some program would
            resolve or refuse.
    """
    if not _BUCKET.fullmatch(bucket):
        raise ConfigurationError(
            f"storage: {quoted(bucket)} is no bucket's name: 3 to 63 of a-z 0-9 . -; write //BUCKET/PREFIX"
        )
    prefix = prefix.removesuffix("/")
    if len(prefix.encode()) > _MOST_PREFIX_BYTES:
        raise ConfigurationError(
            f"storage: the prefix {prefix!r:.50} has {len(prefix.encode())} bytes; S3's keys leave room for "
            f"{_MOST_PREFIX_BYTES}"
        )
    parts = prefix.split("/") if prefix else []
    if any(part in ("", ".", "..") for part in parts) or any(unicodedata.category(each) == "Cc" for each in prefix):
        raise ConfigurationError(
            f"storage: the prefix {prefix!r:.200} has an empty part, a part '.' or '..', or a control character; other "
            "programs would not find what is kept there"
        )
    return prefix


def checked_s3_access(*, region: str | None = None, endpoint_url: str | None = None) -> dict[str, str]:
    """Where S3 is asked, as boto3's `client` takes it: what is given of it.

    Raises:
        ConfigurationError: One of them can be none, or the endpoint holds credentials.
    """
    if region is not None and not _REGION.fullmatch(region):
        raise ConfigurationError(f"storage: region={quoted(region)} is no region, as us-east-1 is")
    if endpoint_url is not None:
        if not re.match(r"https?://[^/?]", endpoint_url):
            raise ConfigurationError("storage: endpoint_url is a URL as http://127.0.0.1:9000 or https://host")
        URL.parse(endpoint_url, what="endpoint_url")  # refuses credentials
    return _given(region_name=region, endpoint_url=endpoint_url)


def checked_s3_writing(
    *, storage_class: str | None = None, sse: str | None = None, kms_key_id: str | None = None
) -> dict[str, str]:
    """What is said of every object that is put, as boto3's `put_object` takes it: what is given of it.

    Raises:
        ConfigurationError: One of them can be none, they do not go together, or what is so written could not be read
            at once.
    """
    if storage_class is not None and not _CLASS.fullmatch(storage_class):
        raise ConfigurationError(f"storage: storage_class={quoted(storage_class)} is none, as STANDARD_IA is")
    if storage_class in _NOT_AT_ONCE:
        raise ConfigurationError(
            f"storage: what is in storage_class={storage_class} cannot be read at once; GLACIER_IR can"
        )
    if sse is not None and sse not in _ENCRYPTIONS:
        raise ConfigurationError(f"storage: sse={quoted(sse)} is none of {', '.join(_ENCRYPTIONS)}")
    if kms_key_id is not None and sse != "aws:kms":
        raise ConfigurationError("storage: kms_key_id goes with sse=aws:kms")
    return _given(StorageClass=storage_class, ServerSideEncryption=sse, SSEKMSKeyId=kms_key_id)


def _given(**options: str | None) -> dict[str, str]:
    return {name: value for name, value in options.items() if value is not None}
