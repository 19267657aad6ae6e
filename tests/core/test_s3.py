"""What a refusal of S3 comes to: the thing, the reason, the way out, and whether trying again can help."""

from __future__ import annotations

from typing import Any

import pytest

from dynalayer import SegmentMissingError, StorageError, s3_refusal


def refusal(code: str, *, status: int = 400, action: str = "GetObject", key: str = "k", **error: str) -> StorageError:
    response = {"Error": {"Code": code, "Message": "so it is", **error}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return s3_refusal(response, action=action, bucket="b", key=key)


def test_an_object_that_is_not_there_is_a_missing_segment() -> None:
    error = refusal("NoSuchKey", status=404)
    assert isinstance(error, SegmentMissingError)
    assert str(error) == "there is no object s3://b/k"


@pytest.mark.parametrize(
    ("action", "needed"),
    [
        ("GetObject", "s3:GetObject on arn:aws:s3:::b/k, s3:ListBucket on arn:aws:s3:::b"),
        ("HeadObject", "s3:GetObject on arn:aws:s3:::b/k, s3:ListBucket on arn:aws:s3:::b"),
        ("PutObject", "s3:PutObject on arn:aws:s3:::b/k, and kms:GenerateDataKey and kms:Decrypt"),
        ("CreateMultipartUpload", "s3:PutObject on arn:aws:s3:::b/k"),
        ("UploadPart", "s3:PutObject on arn:aws:s3:::b/k"),
        ("CompleteMultipartUpload", "s3:PutObject on arn:aws:s3:::b/k"),
        ("AbortMultipartUpload", "s3:AbortMultipartUpload on arn:aws:s3:::b/k"),
        ("ListObjectsV2", "s3:ListBucket on arn:aws:s3:::b"),
        ("DeleteObject", "s3:DeleteObject on arn:aws:s3:::b/k"),
        ("GetObjectTagging", "s3:GetObjectTagging on arn:aws:s3:::b/k"),
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "403"])
def test_what_is_forbidden_names_the_permission_and_on_what(action: str, needed: str, code: str) -> None:
    error = refusal(code, status=403, action=action)
    assert f"s3://b/k refused {action}: {code}: so it is; the role in use needs {needed}" in str(error)
    assert not error.retryable


@pytest.mark.parametrize(
    "code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed"]
)
def test_credentials_that_are_not_taken_are_to_be_renewed(code: str) -> None:
    error = refusal(code, status=403)
    assert "the credentials are wrong or have run out, or this machine's clock is off" in str(error)
    assert not error.retryable


@pytest.mark.parametrize("code", ["PermanentRedirect", "AuthorizationHeaderMalformed", "301"])
def test_a_wrong_region_names_the_right_one_where_it_is_told(code: str) -> None:
    assert "is in region eu-west-1: say so with region=eu-west-1" in str(refusal(code, Region="eu-west-1"))
    assert "is in another region" in str(refusal(code))
    by_header = {"HTTPStatusCode": 301, "HTTPHeaders": {"x-amz-bucket-region": "eu-west-1"}}
    response = {"Error": {"Code": code}, "ResponseMetadata": by_header}
    assert "region=eu-west-1" in str(s3_refusal(response, action="HeadObject", bucket="b"))


def test_a_missing_bucket_says_how_to_make_it() -> None:
    assert "make it with 'aws s3 mb s3://b', or mend the name" in str(refusal("NoSuchBucket", status=404))


@pytest.mark.parametrize(
    ("code", "status", "retryable"),
    [
        ("SlowDown", 503, True),
        ("InternalError", 500, True),
        ("503", 503, True),
        ("RequestTimeout", 400, True),
        ("TooManyRequests", 429, True),
        ("OperationAborted", 409, True),
        ("BadDigest", 400, True),
        ("NotImplemented", 501, False),
        ("InvalidArgument", 400, False),
        ("NoSuchBucket", 404, False),
    ],
)
def test_what_is_busy_or_broken_can_be_tried_again(code: str, status: int, retryable: bool) -> None:
    assert refusal(code, status=status).retryable is retryable


def test_an_answer_without_a_name_of_s3s_is_none_of_s3s_but_heads_have_no_names() -> None:
    assert "is not S3" in str(refusal("404", status=404))
    assert "is not S3" not in str(refusal("404", status=404, action="HeadObject"))
    assert "credentials may have run out" in str(refusal("400", action="HeadObject"))


@pytest.mark.parametrize("response", [{}, {"Error": {}}, {"Error": None, "ResponseMetadata": None}])
def test_an_answer_that_says_nothing_is_an_error_all_the_same(response: dict[str, Any]) -> None:
    assert "s3://b refused PutObject: no reason given" in str(s3_refusal(response, action="PutObject", bucket="b"))


def test_nothing_is_repeated_but_code_and_message() -> None:
    error = refusal(
        "SignatureDoesNotMatch", AWSAccessKeyId="SECRET1", StringToSign="SECRET2", SignatureProvided="SECRET3"
    )
    assert "SECRET" not in str(error)
