"""Snapshots as JSON objects on S3: `storage="s3-json://bucket/prefix"`. Needs boto3: the extra `dynalayer[s3]`."""

from dynalayer_s3_json.adapter import S3JSONAdapter

__all__ = ["S3JSONAdapter"]
