"""What the Parquet adapter is opened with: what is refused, and that nothing secret is kept in a URL or told."""

from __future__ import annotations

import pytest

from dynalayer import URL, ConfigurationError
from dynalayer_parquet import ParquetAdapter


def opened(url: str) -> ParquetAdapter:
    return ParquetAdapter.from_url(URL.parse(url, what="storage"), "users")


# On S3


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("parquet+s3://b/x", "no bucket's name"),
        ("parquet+s3://bucket:9000/x", "no bucket's name"),
        ("parquet+s3://bucket/a//b", "an empty part"),
        ("parquet+s3://bucket/a/../b", "a part '.' or '..'"),
        ("parquet+s3://bucket/" + "x" * 501, "has 501 bytes"),
        ("parquet+s3://bucket?region=eu west", "is no region"),
        ("parquet+s3://bucket?endpoint_url=127.0.0.1:9000", "endpoint_url is a URL"),
        ("parquet+s3://bucket?sse=rot13", "none of AES256, aws:kms"),
        ("parquet+s3://bucket?kms_key_id=k", "goes with sse=aws:kms"),
        ("parquet+s3://bucket?storage_class=cheap", "storage_class='cheap' is none"),
        ("parquet+s3://bucket?storage_class=GLACIER", "cannot be read at once"),
        ("parquet+s3a://bucket?storage_class=DEEP_ARCHIVE", "cannot be read at once"),
    ],
)
def test_what_s3_could_not_keep_or_give_at_once_is_refused_when_it_is_opened(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        opened(url)
    assert told in str(refused.value)


def test_a_bucket_and_prefix_given_in_python_are_looked_at_likewise() -> None:
    with pytest.raises(ConfigurationError, match="an empty part"):
        ParquetAdapter("s3://bucket/a//b", "users")


@pytest.mark.parametrize("scheme", ["parquet+s3", "parquet+s3a"])
def test_what_s3_can_is_taken(scheme: str) -> None:
    url = f"{scheme}://bucket/a/b/?region=eu-west-1&storage_class=GLACIER_IR&sse=aws:kms&kms_key_id=k"
    assert "bucket/a/b/users" in repr(opened(url))
