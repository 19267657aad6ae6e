"""What the errors of file systems come to: the same words for all of them, and the way out where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dynalayer import SegmentMissingError, StorageError, file_failure, s3_refusal

__all__ = ["LOCAL", "failure"]

LOCAL = frozenset({"file", "local"})
"""fsspec's names of this machine's own file system."""


def failure(what: str, protocol: str, path: str, error: Exception) -> StorageError:
    """The error to raise in place of a file system's.

    Args:
        what: What was being done: `"write"`, `"read"`, `"remove"`, `"list"`.
        protocol: fsspec's name of the file system.
        path: The file or folder, as the file system writes it.
        error: As it was raised.

    Returns:
        A `SegmentMissingError` where the file is not there, else a `StorageError`.
    """
    refused = _refused(error)
    if refused is not None:
        bucket, _, key = path.partition("/")
        return s3_refusal(refused.response, action=refused.operation_name, bucket=bucket, key=key)  # type: ignore[attr-defined] # see `_refused`
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return SegmentMissingError(f"there is no {protocol}://{path}")
    if isinstance(error, OSError) and protocol in LOCAL:
        return file_failure(what, Path(path), error)
    advice = ""
    if protocol == "s3":
        advice = "; look at endpoint_url and region, and at the credentials where boto3's own chain finds them"
    return StorageError(
        f"could not {what} {protocol}://{path}: {type(error).__name__}: {error}{advice}",
        retryable=isinstance(error, ConnectionError | TimeoutError),
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
