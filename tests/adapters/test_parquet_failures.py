"""What the Parquet adapter says when something is wrong, what stays pending then, and that no secret is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import s3fs

import servers
from dynalayer import (
    Layer,
    MemoryEventLog,
    PluginLoadError,
    Segment,
    SegmentCorruptError,
    SegmentMissingError,
    StorageError,
)
from dynalayer_parquet import ParquetAdapter
from s3_servers import S3, Answer, Asked, S3Proxy

ORIGIN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """The waits of s3fs, and of the client below it, between tries are their own matter."""
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def log() -> Iterator[MemoryEventLog]:
    with MemoryEventLog("users") as log:
        yield log


Open = Callable[[str], Layer]


@pytest.fixture
def opened(log: MemoryEventLog) -> Iterator[Open]:
    """Opens layers on one log, and closes them in the end."""
    layers: list[Layer] = []

    def layer(url: str) -> Layer:
        layers.append(
            Layer(table="users", get_item_unique_identifier="sk", events=log, storage=url, get_item_partition="pk")
        )
        return layers[-1]

    yield layer
    for each in layers:
        each.close()


def put(layer: Layer, *identifiers: str) -> None:
    layer.set([{"type": "PUT", "item": {"pk": "eu", "sk": each}} for each in identifiers])


def failed_sync(layer: Layer) -> StorageError:
    """A sync that fails, and leaves everything pending and readable."""
    before, items = layer.meta().unsynced_total, layer.get("eu")
    with pytest.raises(StorageError) as failed:
        layer.sync()
    assert layer.meta().unsynced_total == before
    assert layer.get("eu") == items
    assert layer.to_arrow("eu").num_rows == len(items)
    assert servers.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in str(failed.value)
    return failed.value


def test_a_missing_bucket_is_told_with_how_to_make_it_and_once_made_everything_is_folded(
    moto_s3: S3, opened: Open
) -> None:
    url = moto_s3.url(scheme="parquet+s3").replace(moto_s3.bucket, "not-there-yet")
    layer = opened(url)
    put(layer, "a", "b")
    assert "make it with 'aws s3 mb s3://not-there-yet'" in str(failed_sync(layer))
    moto_s3.client.create_bucket(Bucket="not-there-yet")
    assert layer.sync().count == 2
    assert layer.to_arrow("eu").num_rows == 2


def test_what_is_forbidden_names_the_permission_and_on_what(moto_s3: S3, proxy: S3Proxy, opened: Open) -> None:
    layer = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    put(layer, "a")
    proxy.rule = lambda asked: Answer.error(403, "AccessDenied", "Access Denied") if asked.method == "PUT" else None
    told = str(failed_sync(layer))
    assert f"needs s3:PutObject on arn:aws:s3:::{moto_s3.bucket}/snapshots/users/eu/" in told
    proxy.rule = lambda asked: None
    layer.sync()
    proxy.rule = lambda asked: Answer.error(403, "AccessDenied", "Access Denied") if asked.method == "GET" else None
    with pytest.raises(StorageError, match=r"needs s3:GetObject on arn"):
        opened(moto_s3.behind(proxy).url(scheme="parquet+s3")).get("eu")
    with pytest.raises(StorageError, match=r"needs s3:ListBucket on arn"):
        layer.vacuum("eu")


@pytest.mark.parametrize(
    "answer",
    [
        Answer.error(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong", Region="eu-west-1"),
        Answer.error(301, "PermanentRedirect", "must be addressed otherwise", Region="eu-west-1"),
    ],
    ids=["malformed", "redirect"],
)
def test_a_wrong_region_is_told_with_the_right_one(moto_s3: S3, proxy: S3Proxy, opened: Open, answer: Answer) -> None:
    layer = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    put(layer, "a")
    proxy.rule = lambda asked: answer
    assert "say so with region=eu-west-1" in str(failed_sync(layer))


def test_an_endpoint_that_nobody_serves_is_told(opened: Open, aws_environment: None) -> None:
    layer = opened("parquet+s3://bucket/x?endpoint_url=http://127.0.0.1:9")
    put(layer, "a")
    assert "look at endpoint_url" in str(failed_sync(layer))


@pytest.mark.parametrize(
    "answer", [Answer(404, b"<html>nothing here</html>"), Answer(500, b"oh"), Answer(403, b"no")], ids=str
)
def test_what_is_not_s3_is_an_error_and_stores_nothing(
    moto_s3: S3, proxy: S3Proxy, opened: Open, answer: Answer
) -> None:
    layer = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    put(layer, "a")
    proxy.rule = lambda asked: answer
    failed_sync(layer)
    assert moto_s3.listed() == []


def test_credentials_that_run_out_in_the_middle_of_a_sync_leave_everything_pending_until_they_are_renewed(
    moto_s3: S3, proxy: S3Proxy, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    for partition in ("eu", "us", "ap"):
        layer.set([{"type": "PUT", "item": {"pk": partition, "sk": "a"}}])
    expired = Answer.error(400, "ExpiredToken", "The provided token has expired.")
    old = servers.ENVIRONMENT["AWS_ACCESS_KEY_ID"]
    stored: list[str] = []

    def rule(asked: Asked) -> Answer | None:
        if asked.access_key != old or not stored:
            stored.append(asked.key)
            return None
        return expired

    proxy.rule = rule
    with pytest.raises(StorageError, match=r"ExpiredToken.*renew them") as failed:
        layer.sync()
    assert layer.meta().unsynced_total == 2
    assert len(failed.value.__notes__) == 1
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed-access-key")
    assert [len(layer.get(partition)) for partition in ("eu", "us", "ap")] == [1, 1, 1]
    assert layer.sync().count == 2
    assert layer.meta().unsynced_total == 0


def test_without_credentials_the_error_says_where_they_are_looked_for(
    moto_s3: S3, opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = opened(moto_s3.url(scheme="parquet+s3"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    put(layer, "a")
    assert "credentials where boto3's own chain finds them" in str(failed_sync(layer))


def test_a_store_that_is_busy_can_be_tried_again(moto_s3: S3, proxy: S3Proxy, opened: Open) -> None:
    layer = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    put(layer, "a")
    proxy.rule = lambda asked: Answer.error(503, "SlowDown", "Please reduce your request rate.")
    assert failed_sync(layer).retryable
    proxy.rule = lambda asked: None
    assert layer.sync().count == 1


def test_a_server_that_knows_no_ranges_is_read_right(moto_s3: S3, proxy: S3Proxy, opened: Open) -> None:
    layer = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    put(layer, *map(str, range(100)))
    layer.sync()
    (key,) = moto_s3.listed()
    whole = moto_s3.read(key)
    proxy.rule = lambda asked: Answer(200, whole) if asked.method == "GET" and asked.key == key else None
    assert layer.to_arrow("eu", columns=["sk"]).num_rows == 100


def test_an_answer_that_breaks_off_is_an_error_and_never_an_answer(moto_s3: S3, proxy: S3Proxy, opened: Open) -> None:
    layer = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    put(layer, *map(str, range(100)))
    layer.sync()
    (key,) = moto_s3.listed()
    whole = moto_s3.read(key)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1):
        proxy.rule = lambda asked, cut=cut: Answer(206, whole, cut=cut) if asked.method == "GET" else None  # type: ignore[misc]
        fresh = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
        with pytest.raises(StorageError):
            fresh.get("eu")
        with pytest.raises(StorageError):
            fresh.to_arrow("eu")


# What is not what was stored


def segment_in(folder: Path, partition: str = "eu") -> tuple[ParquetAdapter, str, Path]:
    adapter = ParquetAdapter(f"file://{folder}", "users")
    items = {"one": {"sk": "one", "value": 1}}
    ref = adapter.layer_setter(partition, Segment("users", partition, ORIGIN, "base", 0, 1, items))
    (path,) = folder.rglob(ref)
    return adapter, ref, path


def rewritten(path: Path, **told: object) -> None:
    """A Parquet file whose footer says something else."""
    table = pq.read_table(path)
    footer = orjson.loads(pq.read_metadata(path).metadata[b"dynalayer"]) | told
    pq.write_table(table.replace_schema_metadata({b"dynalayer": orjson.dumps(footer)}), path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-7]), "is corrupt or no Parquet file"),
        (lambda path: path.write_bytes(b""), "is corrupt or no Parquet file"),
        (lambda path: path.write_bytes(b"PAR1 and something else"), "is corrupt or no Parquet file"),
        (lambda path: pq.write_table(pa.table({"a": [1]}), path), "is a Parquet file, but no dynalayer segment"),
        (lambda path: rewritten(path, format=2), "a newer dynalayer wrote it"),
        (lambda path: rewritten(path, to_version=7), "does not match its hash"),
        (lambda path: rewritten(path, hash=None), "does not match its hash"),
        (lambda path: rewritten(path, entries="many"), "does not match its hash"),
    ],
    ids=["truncated", "empty", "garbage", "foreign", "newer", "another version", "no hash", "no count"],
)
def test_a_file_that_is_not_what_was_stored_is_an_error_that_names_it(
    tmp_path: Path, damage: Callable[[Path], object], told: str
) -> None:
    adapter, ref, path = segment_in(tmp_path)
    damage(path)
    with pytest.raises(SegmentCorruptError, match=told) as corrupt:
        adapter.layer_getter("eu", ref)
    assert str(path) in str(corrupt.value)


def test_another_partitions_file_in_a_segments_place_is_found_out(tmp_path: Path, opened: Open) -> None:
    layer = opened(f"parquet+file:{tmp_path}")
    for partition in ("eu", "us"):
        layer.set([{"type": "PUT", "item": {"pk": partition, "sk": partition}}])
    layer.sync()
    eu, us = (next((tmp_path / "users" / partition).iterdir()) for partition in ("eu", "us"))
    shutil.copy(us, eu)
    fresh = opened(f"parquet+file:{tmp_path}")
    with pytest.raises(SegmentCorruptError, match="the store gave another segment"):
        fresh.get("eu")
    with pytest.raises(SegmentCorruptError, match="the store gave another segment"):
        fresh.scan("eu")
    assert [finding.partition for finding in layer.verify().findings] == ["eu"]


def test_an_object_deleted_under_the_head_is_an_error_that_names_it_and_the_way_out(s3: S3, opened: Open) -> None:
    layer = opened(s3.url(scheme="parquet+s3"))
    put(layer, "a")
    layer.sync()
    (key,) = s3.listed()
    s3.delete(key)
    for read in (lambda: opened(s3.url(scheme="parquet+s3")).get("eu"), lambda: layer.scan("eu")):
        with pytest.raises(SegmentMissingError, match="restore it from a copy, or rebuild") as gone:
            read()
        assert key in str(gone.value)


def test_a_compaction_that_fails_half_way_leaves_the_snapshot_as_it_was(tmp_path: Path, opened: Open) -> None:
    layer = opened(f"parquet+file:{tmp_path}")
    put(layer, *map(str, range(10)))
    layer.sync()
    for number in range(7):  # one more and a compaction is due
        put(layer, str(number))
        layer.sync()
    (base,) = tmp_path.rglob("*-base-*")
    kept = base.read_bytes()
    base.write_bytes(kept[: len(kept) // 2])
    put(layer, "late")
    with pytest.raises(SegmentCorruptError, match="is corrupt"):
        layer.sync()
    assert len(list(tmp_path.rglob("*.part"))) == 0
    base.write_bytes(kept)
    assert len(opened(f"parquet+file:{tmp_path}").get("eu")) == 11
    put(layer, "later")
    layer.sync()
    assert len(opened(f"parquet+file:{tmp_path}").get("eu")) == 12
    assert len(list(tmp_path.rglob("*-base-*"))) == 2


def test_a_file_system_whose_package_is_missing_says_which(opened: Open) -> None:
    with pytest.raises(PluginLoadError, match="gcsfs"):
        opened("parquet+gs://bucket/x")
