"""Our adapters keep every promise of the kit, and the kit notices adapters that do not."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs

from broken_shelves import BROKEN, Defect
from dynalayer import Adapter
from dynalayer.testing import AdapterConformance, Place, RawFiles, RawFolder
from dynalayer.testing.adapters.running import Outcome, promises, run
from dynalayer_local import LocalAdapter
from dynalayer_parquet import ParquetAdapter
from dynalayer_s3_json import S3JSONAdapter
from s3_servers import S3, fresh_bucket
from servers import REGION
from shelf import BasesOnly, Mutable, Pillar, Press, Shelf, Unlisted, place_of

pytest_plugins = ["pytester"]

SOME_POINTS = ("after layer_setter", "after move_head")
"""Where a sync dies in the kits that take long; in the others, at every point."""


@pytest.fixture(autouse=True)
def _no_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written outlives the process that wrote it; only a power cut would need the flush, which takes long."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class TestLocal(AdapterConformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(open=lambda table: LocalAdapter(tmp_path / table), raw=RawFolder(tmp_path))


class TestLocalInOneFolder(AdapterConformance):
    """Of all tables together."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(open=lambda _: LocalAdapter(tmp_path), raw=RawFolder(tmp_path))


class TestParquetInMemory(AdapterConformance):
    crash_points = SOME_POINTS

    @pytest.fixture
    def place(self) -> Place:
        root = f"memory://{secrets.token_hex(8)}"
        return Place(open=lambda table: ParquetAdapter(root, table), raw=RawFiles.from_url(root))


class TestParquetInFiles(AdapterConformance):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(open=lambda table: ParquetAdapter(f"file://{tmp_path}", table), raw=RawFolder(tmp_path))


class OnS3(AdapterConformance):
    """Small, where each call is a request; all objects of a place share a client, which takes long to make."""

    large_bytes = 1024 * 1024
    many = 40
    crash_points = SOME_POINTS
    racers = 3
    rounds = 3


class TestS3JSON(OnS3):
    @pytest.fixture
    def place(self, s3: S3) -> Place:
        def opened(table: str) -> Adapter:
            # A layer that publishes has a prefix of its own.
            return S3JSONAdapter(s3.bucket, f"x/{table}", table=table, client=s3.client, publish=s3.server == "moto")

        raw = RawFiles(s3_files(s3.endpoint_url), s3.bucket)
        return Place(open=opened, raw=raw, secrets=[os.environ["AWS_SECRET_ACCESS_KEY"]])


class TestParquetOnS3(OnS3):
    @pytest.fixture
    def s3(self, rclone_server: str) -> Iterator[S3]:
        with fresh_bucket("rclone", rclone_server) as bucket:
            yield bucket

    @pytest.fixture
    def place(self, s3: S3) -> Place:
        files = s3_files(s3.endpoint_url)
        root = f"s3://{s3.bucket}/x"
        return Place(
            open=lambda table: ParquetAdapter(root, table, filesystem=files),
            raw=RawFiles(files, s3.bucket),
            secrets=[os.environ["AWS_SECRET_ACCESS_KEY"]],
        )


def s3_files(endpoint_url: str) -> Any:
    """The file system of a server, the same object each time."""
    return s3fs.S3FileSystem(
        endpoint_url=endpoint_url,
        client_kwargs={"region_name": REGION},
        config_kwargs={"response_checksum_validation": "when_required"},  # as the adapter has it: rclone errs in ranges
    )


class Quick(AdapterConformance):
    """Small, for adapters in memory that are tried by the dozen."""

    large_bytes = 50_000
    many = 30
    crash_points = ("after layer_setter", "before layer_setter")
    racers = 3
    rounds = 2


def outcomes(kind: type[Shelf]) -> list[Outcome]:
    return list(run(Quick(), lambda: place_of(kind, secrets=["s3cr3t"])))


@pytest.fixture
def in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit's event logs in SQLite too, where that can be."""
    if Path("/dev/shm").is_dir():  # noqa: S108 -- only its own folders below
        monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")  # noqa: S108 -- likewise


@pytest.mark.parametrize(
    ("kind", "left_out"),
    [(Shelf, 8), (BasesOnly, 10), (Unlisted, 19), (Mutable, 26), (Pillar, 1), (Press, 7)],
    ids=lambda each: getattr(each, "__name__", None),
)
def test_an_adapter_that_keeps_its_promises_passes_and_what_it_does_not_declare_is_left_out(
    kind: type[Shelf], left_out: int, in_memory: None
) -> None:
    found = outcomes(kind)
    assert [each for each in found if each.result == "failed"] == []
    unused = [each for each in found if each.result == "not tested"]
    assert all("capabilities say" in each.reason for each in unused)
    assert len(unused) == left_out


@pytest.mark.parametrize("defect", BROKEN, ids=str)
def test_a_broken_promise_makes_its_own_test_fail_and_no_other(defect: Defect, in_memory: None) -> None:
    failed = {each.test: each.reason for each in outcomes(defect.shelf) if each.result == "failed"}
    assert set(failed) == {test.__name__ for test in defect.noticed}
    assert all(failed.values())
    assert bool(defect.reason) == (len(defect.noticed) > 1)


def test_each_promise_is_broken_by_some_adapter_of_these_tests() -> None:
    noticed = {test.__name__ for defect in BROKEN for test in defect.noticed}
    assert noticed == set(promises())
