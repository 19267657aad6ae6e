"""What the errors of file systems come to: the same words for all of them, and the way out where it is known."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dynalayer import SegmentMissingError, StorageError, file_failure, may_pass, s3_refusal
from dynalayer_parquet.credentials import Mask

__all__ = ["LOCAL", "S3", "failure", "has_no_range", "temporary_failure", "unmade"]

_OF_THE_NETWORK = {
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "botocore.exceptions": ("ConnectionError", "HTTPClientError", "IncompleteReadError"),
    "http.client": ("IncompleteRead",),
    "requests.exceptions": ("ChunkedEncodingError", "ConnectionError", "Timeout"),
    "urllib3.exceptions": ("IncompleteRead",),
}
_OF_CERTIFICATES = {
    "aiohttp": ("ClientSSLError",),
    "botocore.exceptions": ("SSLError",),
    "requests.exceptions": ("SSLError",),
}

LOCAL = frozenset({"file", "local"})
"""fsspec's names of this machine's own file system."""

S3 = frozenset({"s3", "s3a"})
"""Its names of S3."""


def failure(what: str, protocol: str, path: str, url: str, error: Exception, mask: Mask) -> StorageError:
    """The error to raise in place of a file system's.

    Args:
        what: What was being done: `"write"`, `"read"`, `"remove"`, `"list"`.
        protocol: fsspec's name of the file system.
        path: The file or folder, as the file system writes it.
        url: What people call it.
        error: As it was raised.
        mask: Takes secrets out of what it says.

    Returns:
        A `SegmentMissingError` where the file is not there, else a `StorageError`.
    """
    refused = _refused(error)
    if refused is not None:
        bucket, _, key = path.partition("/")
        return s3_refusal(refused.response, action=refused.operation_name, bucket=bucket, key=key)  # type: ignore[attr-defined] # see `_refused`
    if isinstance(error, FileNotFoundError | NotADirectoryError) and what != "write":
        return SegmentMissingError(f"there is no {url}")
    if isinstance(error, OSError) and protocol in LOCAL:
        return file_failure(what, Path(path), error)
    advice = ""
    if protocol in S3:
        advice = "; look at endpoint_url and region, and at the credentials where boto3's own chain finds them"
    return StorageError(
        f"could not {what} {url}: {type(error).__name__}: {mask(str(error))}{advice}", retryable=_passes(error)
    )


def unmade(protocol: str, error: Exception, mask: Mask) -> StorageError:
    """The error for a file system that could not be made, as those that connect at once may fail to."""
    return StorageError(
        f"storage: the file system {protocol!r} cannot be reached: {type(error).__name__}: {mask(str(error))}; look at "
        "the host in the URL, at the network, and at the credentials where the file system's own client finds them",
        retryable=_passes(error),
    )


def temporary_failure(error: OSError) -> StorageError:
    """The error for this machine's folder of temporary files, in which a file is filled before it is sent."""
    try:
        folder = tempfile.gettempdir()
    except OSError:  # there is none at all, and the error lists those that were tried
        folder = "any temporary folder"
    told = file_failure("write the file to send in", Path(folder), error)
    return StorageError(f"{told.message}; TMPDIR in the environment names another folder", retryable=told.retryable)


def has_no_range(error: Exception) -> bool:
    """Whether S3 says that what was asked for begins behind the end: of an empty object also byte 0 does."""
    refused = _refused(error)
    return refused is not None and refused.response.get("Error", {}).get("Code") in ("416", "InvalidRange")  # type: ignore[attr-defined] # see `_refused`


def _passes(error: Exception) -> bool:
    """Whether trying again can help; what clients raise for the network is mostly no error of the system."""
    return may_pass(error) or (_is_one(error, _OF_THE_NETWORK) and not _is_one(error, _OF_CERTIFICATES))


def _is_one(error: Exception, kinds: Mapping[str, Sequence[str]]) -> bool:
    """Whether an error is of one of these kinds; a client that was never imported has raised none."""
    return any(
        isinstance(error, getattr(sys.modules[module], name))
        for module, names in kinds.items()
        if module in sys.modules
        for name in names
    )


def _refused(error: BaseException | None) -> BaseException | None:
    """The `ClientError` of botocore that an error is or came from: s3fs makes errors of the system of them."""
    for _ in range(8):
        if error is None:
            return None
        response: Any = getattr(error, "response", None)
        if isinstance(response, Mapping) and isinstance(getattr(error, "operation_name", None), str):
            return error
        error = error.__cause__
    return None
