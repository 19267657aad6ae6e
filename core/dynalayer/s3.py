"""What S3's refusals mean and what to do about them, the same for every adapter, whichever client it speaks through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynalayer.errors import SegmentMissingError, StorageError

__all__ = ["s3_refusal"]

# What an operation needs: permissions are not named after it throughout.
_PERMISSIONS = {
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "CompleteMultipartUpload": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "DeleteObject": "s3:DeleteObject",
    "DeleteObjects": "s3:DeleteObject",
    "HeadBucket": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "ListObjects": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "UploadPart": "s3:PutObject",
}
_BUSY = frozenset(
    {
        "BadDigest",  # the body was damaged on the way
        "BandwidthLimitExceeded",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "NoSuchUpload",
        "OperationAborted",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestTimeout",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "XAmzContentChecksumMismatch",
    }
)
_DENIED = frozenset({"403", "AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden"})
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    }
)
_ELSEWHERE = frozenset(
    {
        "301",
        "307",
        "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException",
        "PermanentRedirect",
        "TemporaryRedirect",
    }
)


def s3_refusal(response: Mapping[str, Any], *, action: str, bucket: str, key: str = "") -> StorageError:
    """The error that an answer of S3 comes to: what was refused, why, and the way out; `retryable` where that helps.

    Nothing but the answer's code and message is repeated: no header, and no credentials.

    Args:
        response: As botocore's `ClientError` has it.
        action: The operation's name, as `ClientError.operation_name` has it: `GetObject`.
        bucket: The bucket asked.
        key: The object asked for, or the beginning of those listed.

    Returns:
        A `SegmentMissingError` where the object is not there, else a `StorageError`; for the caller to raise from
        what it caught.
    """
    error: Mapping[str, Any] = response.get("Error") or {}
    code, message = str(error.get("Code", "")), str(error.get("Message", ""))
    location = f"s3://{bucket}/{key}" if key else f"s3://{bucket}"
    if code == "NoSuchKey":
        return SegmentMissingError(f"there is no object {location}")
    said = f"{code}: {message}" if message else code or "no reason given"
    status = int((response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0)
    return StorageError(
        f"{location} refused {action}: {said}{_advice(response, code, action, bucket, key)}",
        retryable=code in _BUSY or status == 429 or (status >= 500 and status != 501),
    )


def _advice(response: Mapping[str, Any], code: str, action: str, bucket: str, key: str) -> str:
    if code in _DENIED:
        return f"; the role in use needs {_needed(action, bucket, key)}"
    if code in _CREDENTIALS:
        return (
            "; the credentials are wrong or have run out, or this machine's clock is off: renew them where they come "
            "from and try again"
        )
    if code in _ELSEWHERE:
        region = _region(response)
        return (
            f"; the bucket is in region {region}: say so with region={region}"
            if region
            else "; the bucket is in another region, or at another endpoint: say so with region=… or endpoint_url=…"
        )
    if code == "400" and action.startswith("Head"):
        return "; S3 does not say why: the credentials may have run out, or the bucket may be in another region"
    if not code or (code.isdecimal() and not action.startswith("Head")):  # S3's own answers have names
        return "; what answered is not S3, or is out of order: look at endpoint_url"
    return {
        "InvalidObjectState": "; it was archived: restore it, and keep segments in a storage class that reads at once",
        "InvalidStorageClass": "; mend storage_class",
        "NoSuchBucket": f"; make it with 'aws s3 mb s3://{bucket}', or mend the name",
        "NoSuchUpload": "; the upload was aborted meanwhile, perhaps by a lifecycle rule that is too quick",
        "NotImplemented": "; what answered does not know all of S3",
    }.get(code, _key_advice(code))


def _key_advice(code: str) -> str:
    return "; look at the key, whether it is enabled and where it is" if code.startswith("KMS.") else ""


def _needed(action: str, bucket: str, key: str) -> str:
    permission = _PERMISSIONS.get(action, f"s3:{action}")
    if permission == "s3:ListBucket":
        return f"{permission} on arn:aws:s3:::{bucket}"
    needed = f"{permission} on arn:aws:s3:::{bucket}/{key or '*'}"
    if permission == "s3:GetObject":
        return (
            f"{needed}, s3:ListBucket on arn:aws:s3:::{bucket} (without it S3 denies also what is not there), and "
            "kms:Decrypt where a KMS key encrypts"
        )
    if permission == "s3:PutObject":
        return f"{needed}, and kms:GenerateDataKey and kms:Decrypt where a KMS key encrypts"
    return needed


def _region(response: Mapping[str, Any]) -> str:
    headers = (response.get("ResponseMetadata") or {}).get("HTTPHeaders") or {}
    return str((response.get("Error") or {}).get("Region") or headers.get("x-amz-bucket-region") or "")
