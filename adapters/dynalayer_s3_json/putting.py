"""Putting an object: whole and with checksums or not at all, in one request, or in parts where it is large."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from zlib import crc32

from dynalayer import StorageError
from dynalayer_s3_json.connection import Connection
from dynalayer_s3_json.failures import code_of, not_s3

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["put"]

_LARGE = 16 * 1024 * 1024  # from here on several requests at once are quicker than one
_PART = 8 * 1024 * 1024
_MOST_PARTS = 10_000  # S3's limit
_AT_ONCE = 4


def put(
    connection: Connection, key: str, body: bytes, arguments: Mapping[str, Any], condition: Mapping[str, str]
) -> None:
    """Put an object; it is durable, whole, when this returns.

    Args:
        connection: Asks for it.
        key: Its key.
        body: Its content.
        arguments: What else is said of it, as boto3's `put_object` takes it.
        condition: Under which it takes its place, likewise.

    Raises:
        StorageError: It is not there, or that is unknown.
    """
    if len(body) >= _LARGE:
        _put_in_parts(connection, key, body, arguments, condition)
        return
    given: dict[str, Any] = {**arguments, **condition}
    with connection.asking("PutObject", key) as client:
        answer = client.put_object(Bucket=connection.bucket, Key=key, Body=body, ChecksumCRC32=_checksum(body), **given)
    if "ETag" not in answer:
        raise not_s3(connection.location(key), "PutObject")


def _put_in_parts(
    connection: Connection, key: str, body: bytes, arguments: Mapping[str, Any], condition: Mapping[str, str]
) -> None:
    place: dict[str, Any] = {"Bucket": connection.bucket, "Key": key}
    last: dict[str, Any] = dict(condition)
    with connection.asking("CreateMultipartUpload", key) as client:
        place["UploadId"] = client.create_multipart_upload(
            Bucket=connection.bucket, Key=key, ChecksumAlgorithm="CRC32", **arguments
        )["UploadId"]
    try:
        parts = _sent(connection, body, place)
        with connection.asking("CompleteMultipartUpload", key) as client:
            client.complete_multipart_upload(**place, MultipartUpload={"Parts": parts}, **last)
    except BaseException as error:
        _abort(connection, place, error)
        raise


def _sent(connection: Connection, body: bytes, place: Mapping[str, Any]) -> list[CompletedPartTypeDef]:
    """Send the parts; when this raises none is on its way any more."""
    size = max(_PART, -(-len(body) // _MOST_PARTS))

    def send(start: int) -> CompletedPartTypeDef:
        part, number = body[start : start + size], start // size + 1
        checksum = _checksum(part)
        with connection.asking("UploadPart", place["Key"]) as client:
            answer = client.upload_part(**place, PartNumber=number, Body=part, ChecksumCRC32=checksum)
        return {"PartNumber": number, "ETag": answer["ETag"], "ChecksumCRC32": checksum}

    pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="dynalayer-s3")
    try:
        return list(pool.map(send, range(0, len(body), size)))
    finally:
        pool.shutdown(cancel_futures=True)


def _abort(connection: Connection, place: Mapping[str, Any], reason: BaseException) -> None:
    """Let nothing half-written stay, which would be paid for; where that fails too the reason tells it."""
    try:
        with connection.asking("AbortMultipartUpload", place["Key"]) as client:
            client.abort_multipart_upload(**place)
    except StorageError as error:
        if code_of(error) != "NoSuchUpload":
            reason.add_note(f"and its parts stay, paid for, until a lifecycle rule removes them: {error.message}")


def _checksum(body: bytes) -> str:
    """As a header has it: a trailer, which boto3 would send, is more than some servers read."""
    return b64encode(crc32(body).to_bytes(4, "big")).decode()
