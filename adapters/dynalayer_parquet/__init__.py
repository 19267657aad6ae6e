"""Snapshots in Parquet files, on anything that fsspec reaches: `storage="parquet+s3://bucket/prefix"`."""

from dynalayer_parquet.adapter import ParquetAdapter

__all__ = ["ParquetAdapter"]
