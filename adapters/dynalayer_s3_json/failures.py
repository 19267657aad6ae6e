"""What it comes to that a request got no answer, or one that cannot be read, and what to do then."""

from __future__ import annotations

import re

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ResponseStreamingError,
    SSLError,
    SSOError,
    TokenRetrievalError,
)
from botocore.exceptions import ConnectionError as NotConnectedError
from botocore.parsers import ResponseParserError

from dynalayer import SegmentCorruptError, StorageError

__all__ = ["UNREADABLE", "code_of", "not_s3", "unanswered"]

UNREADABLE = (BotoCoreError, ResponseParserError, RecursionError)
"""What botocore raises in place of an answer; it recurses where it is redirected to nowhere, again and again."""

_NO_CREDENTIALS = (
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    SSOError,
    TokenRetrievalError,
)
_CREDENTIALS = re.compile(r"//[^/@\s]*@")  # of a URL


def code_of(error: StorageError) -> str:
    """S3's own name for what an error was caused by; empty where it has none."""
    cause = error.__cause__
    return str(cause.response.get("Error", {}).get("Code", "")) if isinstance(cause, ClientError) else ""


def unanswered(location: str, action: str, error: Exception) -> StorageError:
    """The error that it comes to."""
    said = _CREDENTIALS.sub("//", str(error))
    if isinstance(error, FlexibleChecksumError):
        return SegmentCorruptError(
            f"what came of {location} does not match its checksum: it was damaged on the way, or where it is kept; if "
            "it stays so restore it from a copy, or rebuild the partition from the source table",
            retryable=True,
        )
    if isinstance(error, IncompleteReadError | ResponseStreamingError):
        return StorageError(f"{location} broke off in its answer to {action}: {said}", retryable=True)
    if isinstance(error, _NO_CREDENTIALS):
        return StorageError(
            f"{location} cannot be asked: {said}; boto3 finds credentials in its own chain: environment, profile, role"
        )
    if isinstance(error, NotConnectedError | HTTPClientError):
        return StorageError(
            f"{location} did not answer to {action}: {said}; look at the network, region and endpoint_url",
            retryable=not isinstance(error, SSLError),
        )
    if isinstance(error, ResponseParserError | RecursionError):
        return not_s3(location, action)
    return StorageError(f"{location} could not be asked for {action}: {said}")


def not_s3(location: str, action: str) -> StorageError:
    """The error of an answer that S3 does not give."""
    return StorageError(
        f"{location} answered {action} as S3 does not: look at endpoint_url and region; something else serves it"
    )
