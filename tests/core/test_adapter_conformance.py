"""Our adapters keep every promise of the kit, and the kit notices adapters that do not."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs

from broken_shelves import BROKEN, Defect
from dynalayer import Adapter, Segment, SegmentCorruptError, WrappedAdapter, hookimpl
from dynalayer.testing import AdapterConformance, Place, Raw, RawDict, RawFiles, RawFolder
from dynalayer.testing.adapters.running import Outcome, promises, run
from dynalayer.testing.adapters.world import Around
from dynalayer.testing.faults import Crash, CrashingStore
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
    many = 25
    crash_points = SOME_POINTS[:1]
    racers = 3
    rounds = 2


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
    [(Shelf, 8), (BasesOnly, 10), (Unlisted, 19), (Mutable, 27), (Pillar, 1), (Press, 7)],
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
    noticed, perhaps = ({test.__name__ for test in tests} for tests in (defect.noticed, defect.perhaps))
    assert noticed <= set(failed) <= noticed | perhaps
    assert all(failed.values())
    assert bool(defect.reason) == (len(defect.noticed) > 1)


def test_each_promise_is_broken_by_some_adapter_of_these_tests() -> None:
    noticed = {test.__name__ for defect in BROKEN for test in defect.noticed}
    assert noticed == set(promises())


class Hides:
    """A wrapper that answers damage with what it makes up."""

    def around(self, inner: Adapter) -> Adapter:
        class Hiding(WrappedAdapter):
            @hookimpl
            def layer_getter(self, partition: str, ref: str) -> Segment:
                try:
                    return super().layer_getter(partition, ref)
                except SegmentCorruptError:
                    return Segment("users", partition, "", "base", 0, 1, {})

        return Hiding(inner)


def test_a_stack_is_tested_as_one_adapter_and_damage_reaches_its_store(in_memory: None) -> None:
    found = list(run(Quick(), lambda: place_of(Shelf, wrap=[CrashingStore(Crash()), Around()])))
    assert [each for each in found if each.result == "failed"] == []
    failed = {each.test for each in run(Quick(), lambda: place_of(Shelf, wrap=[Hides()])) if each.result == "failed"}
    assert failed >= {
        AdapterConformance.test_an_emptied_segment_is_an_error.__name__,
        AdapterConformance.test_a_flipped_byte_is_an_error_or_changes_nothing.__name__,
    }
    assert AdapterConformance.test_values_of_every_kind_come_back_exactly.__name__ not in failed


def test_with_copies_elsewhere_right_items_are_as_good_an_answer_to_damage_as_an_error(in_memory: None) -> None:
    class Copies(Shelf):
        """What was put is answered from a copy that raw access does not reach."""

        @hookimpl
        def layer_setter(self, partition: str, segment: Segment) -> str:
            ref = super().layer_setter(partition, segment)
            self.board.notes[self.key(partition, ref)] = self.encode(segment)
            return ref

        @hookimpl
        def layer_getter(self, partition: str, ref: str) -> Segment:
            data = self.board.notes.get(self.key(partition, ref))
            return super().layer_getter(partition, ref) if data is None else self.decode(data, partition, ref)

        @hookimpl
        def layer_discard(self, partition: str, ref: str) -> bool:
            self.board.notes.pop(self.key(partition, ref), None)
            return super().layer_discard(partition, ref)

    def failed(*, copies: bool) -> set[str]:
        found = run(Quick(), lambda: place_of(Copies, copies=copies))
        return {each.test for each in found if each.result == "failed"}

    assert failed(copies=True) == set()
    assert AdapterConformance.test_an_emptied_segment_is_an_error.__name__ in failed(copies=False)


def test_in_pytest_the_kit_says_what_to_override_and_what_it_skips(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest
        from dynalayer.testing import AdapterConformance, Place
        from dynalayer_local import LocalAdapter

        class TestMyAdapter(AdapterConformance):
            pass

        class TestUnderAFolder(AdapterConformance):
            @pytest.fixture
            def place(self, tmp_path):
                return Place(open=lambda table: LocalAdapter(tmp_path / table))
        """
    )
    result = pytester.runpytest("-p", "no:randomly", "-rs", "-k", "emptied or identifiers")
    result.assert_outcomes(errors=2, passed=1, skipped=1)
    result.stdout.fnmatch_lines(
        ["*TestMyAdapter must override the fixture place*", "*SKIPPED*the place has no raw access*"]
    )


def test_other_tools_of_the_package_need_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import dynalayer.testing.faults, dynalayer.testing; print('well')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "well\n", done.stderr


def test_each_raw_access_reads_writes_and_removes_by_name(tmp_path: Path) -> None:
    raws: list[Raw] = [
        RawDict({}),
        RawFolder(tmp_path / "folder"),
        RawFiles.from_url(f"file://{tmp_path}/files"),
        RawFiles.from_url(f"memory://{secrets.token_hex(8)}"),
    ]
    for raw in raws:
        assert isinstance(raw, Raw)
        assert list(raw.names()) == []
        raw.write("b/deep/one", b"1")
        raw.write("a", b"2")
        raw.write("a", b"3")
        assert list(raw.names()) == ["a", "b/deep/one"]
        assert [raw.read(name) for name in raw.names()] == [b"3", b"1"]
        raw.remove("a")
        assert list(raw.names()) == ["b/deep/one"]
