"""The S3 JSON adapter on two servers: names, whole layers, parts, what is asked and what is passed on."""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest

from dynalayer import (
    URL,
    Adapter,
    ConfigurationError,
    EventLog,
    Layer,
    MemoryEventLog,
    Segment,
    StorageError,
)
from dynalayer.opening import StorageOption
from dynalayer.values import Item
from dynalayer_s3_json import S3JSONAdapter, putting
from s3_servers import S3, Answer, Asked, S3Proxy

ORIGIN = "0123456789abcdef"
MIB = 1024 * 1024


def segment_of(partition: str, value: object = 1, *, table: str = "users", origin: str = ORIGIN) -> Segment:
    return Segment(table, partition, origin, "base", 0, 1, {"one": {"sk": "one", "value": value}})


Open = Callable[..., Layer]


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens layers, and closes them in the end."""
    layers: list[Layer] = []

    def layer(storage: StorageOption, log: EventLog | str = "memory:", **options: Any) -> Layer:
        given: dict[str, Any] = {"table": "users", **options}
        layers.append(
            Layer(get_item_unique_identifier="sk", get_item_partition="pk", events=log, storage=storage, **given)
        )
        return layers[-1]

    yield layer
    for each in layers:
        each.close()


@pytest.fixture
def adapter(s3: S3) -> Iterator[S3JSONAdapter]:
    with closing_adapter(s3.url()) as adapter:
        yield adapter


class closing_adapter:  # noqa: N801 -- reads as contextlib's
    """An adapter by its URL, for a while."""

    def __init__(self, url: str, table: str = "users") -> None:
        self.adapter = S3JSONAdapter.from_url(URL.parse(url, what="storage"), table)

    def __enter__(self) -> S3JSONAdapter:
        return self.adapter

    def __exit__(self, *_: object) -> None:
        self.adapter.layer_closed()


def put(layer: Layer, *identifiers: str, partition: str = "eu", value: object = 1) -> None:
    layer.set([{"type": "PUT", "item": {"pk": partition, "sk": each, "value": value}} for each in identifiers])


def expected(*identifiers: str, partition: str = "eu", value: object = 1) -> list[dict[str, object]]:
    return [{"pk": partition, "sk": each, "value": value} for each in sorted(identifiers)]


def noise(size: int) -> bytes:
    return secrets.token_bytes(size)


# Segments and their names


def test_a_segment_is_an_object_below_table_and_partition_and_its_ref_holds_the_origin(
    adapter: S3JSONAdapter, s3: S3
) -> None:
    segment = segment_of("eu")
    ref = adapter.layer_setter("eu", segment)
    assert ref == f"{segment.name}.segment"
    assert ORIGIN in ref
    assert s3.listed() == [f"snapshots/users/eu/{ref}"]
    assert s3.read(f"snapshots/users/eu/{ref}") == segment.to_bytes()
    assert adapter.layer_getter("eu", ref) == segment


def test_a_listing_of_several_pages_is_whole_and_holds_nothing_else(
    moto_s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    folder = "snapshots/users/eu/"
    names = [f"{number:020d}.segment" for number in range(35)]
    for name in [*names, "notes.txt", "deeper/x.segment"]:
        moto_s3.write(folder + name, b"")
    with closing_adapter(moto_s3.url()) as adapter:
        assert adapter.layer_list("eu") == names


@pytest.mark.parametrize(
    "ref", ["", "x", "../us/one.segment", "/etc/passwd", "/srv/x.segment", "..", "one.segment/../../x", "x.json"]
)
def test_a_ref_of_another_kind_reaches_no_object(moto_s3: S3, ref: str) -> None:
    with closing_adapter(moto_s3.url()) as adapter:
        with pytest.raises(StorageError, match="no ref of this adapter"):
            adapter.layer_getter("eu", ref)
        with pytest.raises(StorageError, match="no ref of this adapter"):
            adapter.layer_discard("eu", ref)


@pytest.mark.parametrize("prefix", ["", "a", "a/", "a/b c/ü", "x" * 250 + "/" + "x" * 249])
def test_a_prefix_may_be_any_path(s3: S3, prefix: str) -> None:
    with closing_adapter(s3.url(prefix)) as adapter:
        for partition in ("eu", "x" * 512):
            segment = segment_of(partition)
            ref = adapter.layer_setter(partition, segment)
            assert adapter.layer_getter(partition, ref) == segment
            assert adapter.layer_list(partition) == [ref]
    begin = prefix.removesuffix("/")
    assert all(key.startswith(f"{begin}/users/" if begin else "users/") for key in s3.listed())


# Layers


# Parts


def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as small as S3 takes them, and everything of more than one in parts."""
    monkeypatch.setattr(putting, "_LARGE", 5 * MIB)
    monkeypatch.setattr(putting, "_PART", 5 * MIB)


def uploads(s3: S3) -> list[Any]:
    return list(s3.client.list_multipart_uploads(Bucket=s3.bucket).get("Uploads", ()))


def test_a_large_segment_is_put_in_parts_and_got_by_one_request(
    moto_s3: S3, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_parts(monkeypatch)
    segment = segment_of("eu", noise(11 * MIB))
    with closing_adapter(moto_s3.behind(proxy).url()) as adapter:
        ref = adapter.layer_setter("eu", segment)
        parts = [each for each in proxy.asked if "partNumber" in each.query]
        assert len(parts) == 3
        assert all(each.headers["x-amz-checksum-crc32"] for each in parts)
        assert proxy.count("POST") == 2
        assert adapter.layer_getter("eu", ref) == segment
        assert proxy.count("GET") == 1
    assert uploads(moto_s3) == []


def test_a_real_segment_of_20_mb_goes_there_and_back(
    adapter: S3JSONAdapter, s3: S3, record_property: Callable[[str, object], None]
) -> None:
    items: dict[str, Item] = {f"blob-{number:03d}": {"value": noise(200_000)} for number in range(100)}
    segment = Segment("users", "eu", ORIGIN, "base", 0, 1, items)
    started = time.perf_counter()
    ref = adapter.layer_setter("eu", segment)
    put_at = time.perf_counter()
    assert adapter.layer_getter("eu", ref) == segment
    got_at = time.perf_counter()
    size = s3.client.head_object(Bucket=s3.bucket, Key=f"snapshots/users/eu/{ref}")["ContentLength"]
    assert size > 16 * MIB
    assert uploads(s3) == []
    told = f"{size / MIB:.1f} MiB put in {put_at - started:.2f} s, got in {got_at - put_at:.2f} s"
    record_property(f"a large segment on {s3.server}", told)


@pytest.mark.parametrize("failing", ["partNumber=2", "complete"])
def test_an_upload_that_fails_is_aborted_and_leaves_nothing(
    moto_s3: S3, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    in_small_parts(monkeypatch)

    def rule(asked: Asked) -> Answer | None:
        query = parse_qs(asked.query, keep_blank_values=True)
        completes = asked.method == "POST" and "uploadId" in query
        if failing in asked.query or (failing == "complete" and completes):
            return Answer.error(403, "AccessDenied")
        return None

    proxy.rule = rule
    with closing_adapter(moto_s3.behind(proxy).url()) as adapter:
        with pytest.raises(StorageError, match="s3:PutObject on arn:aws:s3:::"):
            adapter.layer_setter("eu", segment_of("eu", noise(21 * MIB)))
        assert adapter.layer_list("eu") == []
    assert uploads(moto_s3) == []


def test_an_upload_that_cannot_be_aborted_says_that_its_parts_stay(
    moto_s3: S3, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_parts(monkeypatch)
    proxy.rule = lambda asked: Answer.error(403, "AccessDenied") if "uploadId" in asked.query else None
    with (
        closing_adapter(moto_s3.behind(proxy).url()) as adapter,
        pytest.raises(StorageError, match="s3:PutObject") as raised,
    ):
        adapter.layer_setter("eu", segment_of("eu", noise(6 * MIB)))
    (note,) = raised.value.__notes__
    assert "its parts stay, paid for" in note
    assert "s3:AbortMultipartUpload on arn:aws:s3:::" in note
    assert len(uploads(moto_s3)) == 1


# What is asked, and passed on


def test_a_put_carries_its_checksum_as_a_header_and_the_storage_class_and_encryption_given(
    moto_s3: S3, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_small_parts(monkeypatch)
    options = {"storage_class": "STANDARD_IA", "sse": "aws:kms", "kms_key_id": "arn:aws:kms:us-east-1:1:key/k"}
    with closing_adapter(moto_s3.behind(proxy).url(publish="true", **options)) as adapter:
        adapter.layer_setter("eu", segment_of("eu"))
        adapter.layer_setter("eu", segment_of("eu", noise(6 * MIB)))
        adapter.layer_publish("eu", ORIGIN, 1, {})
    assert len(moto_s3.listed()) == 3
    for key in moto_s3.listed():
        head = moto_s3.client.head_object(Bucket=moto_s3.bucket, Key=key)
        assert head["StorageClass"] == "STANDARD_IA"
        assert head["ServerSideEncryption"] == "aws:kms"
        assert head["SSEKMSKeyId"] == options["kms_key_id"]
    for asked in proxy.asked:
        assert asked.method != "PUT" or asked.headers["x-amz-checksum-crc32"]
        assert "x-amz-trailer" not in asked.headers


def test_a_cold_read_of_a_layer_is_one_get(moto_s3: S3, proxy: S3Proxy, opened: Open) -> None:
    log = MemoryEventLog("users")
    layer = opened(moto_s3.url(), log)
    put(layer, "one")
    layer.sync()
    fresh = opened(moto_s3.behind(proxy).url(), log)
    assert proxy.asked == []
    for _ in range(3):
        assert fresh.get("eu") == expected("one")
    assert [(each.method, each.headers.get("range")) for each in proxy.asked] == [("GET", None)]


def test_a_client_of_ones_own_is_used_and_left_open(s3: S3, opened: Open) -> None:
    seen: list[str] = []
    s3.client.meta.events.register("before-send.s3", lambda request, **_: seen.append(request.method))
    log = MemoryEventLog("users")
    storage = S3JSONAdapter(s3.bucket, "mine", table="users", client=s3.client)
    with opened(storage, log) as layer:
        put(layer, "one")
        layer.sync()
    assert seen == ["PUT"]
    assert len(s3.listed("mine/users/eu/")) == 1


@pytest.mark.parametrize("own", [False, True])
def test_after_a_fork_a_client_is_made_anew_and_ones_own_is_refused(moto_s3: S3, own: bool) -> None:
    url = URL.parse(moto_s3.url(), what="storage")
    adapter = (
        S3JSONAdapter(moto_s3.bucket, "snapshots", table="users", client=moto_s3.client)
        if own
        else S3JSONAdapter.from_url(url, "users")
    )
    segment = segment_of("eu")
    ref = adapter.layer_setter("eu", segment)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = "got" if adapter.layer_getter("eu", ref) == segment else "another"
        except StorageError as error:
            told = str(error)
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert "made in another process" in told if own else told == "got"
    assert adapter.layer_getter("eu", ref) == segment
    adapter.layer_closed()


def test_many_threads_may_use_an_adapter_from_its_first_call_on(s3: S3) -> None:
    with closing_adapter(s3.url()) as adapter:
        barrier = threading.Barrier(8)
        found: list[bool] = []

        def work(number: int) -> None:
            barrier.wait(30)
            segment = segment_of("eu", number)
            found.append(adapter.layer_getter("eu", adapter.layer_setter("eu", segment)) == segment)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 8
        assert len(adapter.layer_list("eu")) == 8


def test_nothing_is_asked_and_no_client_made_when_a_layer_is_built(
    monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(boto3.session, "Session", never)
    layer = opened("s3-json://bucket/prefix?endpoint_url=http://127.0.0.1:1")
    put(layer, "one")
    assert layer.get("eu") == expected("one")
    layer.close()


def test_an_adapter_may_be_used_on_after_a_layer_was_closed(s3: S3, opened: Open) -> None:
    with closing_adapter(s3.url()) as adapter:
        for name in ("one", "two"):
            with opened(adapter) as layer:
                put(layer, name)
                layer.sync()
        assert len(adapter.layer_list("eu")) == 2


# Options


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3-json:", "write s3-json://BUCKET/PREFIX"),
        ("s3-json:bucket/prefix", "write s3-json://BUCKET/PREFIX"),
        ("s3-json+http://bucket/prefix", "write s3-json://BUCKET/PREFIX"),
        ("s3-json:///prefix", "no bucket's name"),
        ("s3-json://b", "no bucket's name"),
        ("s3-json://bucket:9000/prefix", "no bucket's name"),
        ("s3-json://bucket/a//b", "an empty part"),
        ("s3-json://bucket//a", "an empty part"),
        ("s3-json://bucket/a/../b", "a part '.' or '..'"),
        ("s3-json://bucket/a%0ab", "a control character"),
        ("s3-json://bucket/" + "x" * 501, "has 501 bytes"),
        ("s3-json://bucket?regoin=eu", "knows no option 'regoin'; known options: endpoint_url, kms_key_id, publish"),
        ("s3-json://bucket?region=eu west", "is no region"),
        ("s3-json://bucket?endpoint_url=127.0.0.1:9000", "endpoint_url is a URL"),
        ("s3-json://bucket?endpoint_url=http://", "endpoint_url is a URL"),
        ("s3-json://bucket?endpoint_url=http://me:hidden@127.0.0.1", "leave them out"),
        ("s3-json://me:hidden@bucket/prefix", "leave them out"),
        ("s3-json://bucket?publish=yes", "neither true nor false"),
        ("s3-json://bucket?sse=rot13", "none of AES256, aws:kms"),
        ("s3-json://bucket?kms_key_id=k", "goes with sse=aws:kms"),
        ("s3-json://bucket?sse=AES256&kms_key_id=k", "goes with sse=aws:kms"),
        ("s3-json://bucket?storage_class=cheap", "storage_class='cheap' is none"),
        ("s3-json://bucket?storage_class=DEEP_ARCHIVE", "cannot be read at once"),
    ],
)
def test_a_wrong_url_is_refused_when_the_layer_is_built_and_no_secret_is_repeated(
    opened: Open, url: str, said: str
) -> None:
    with pytest.raises(ConfigurationError) as raised:
        opened(url)
    assert said in str(raised.value)
    assert "hidden" not in str(raised.value)


@pytest.mark.parametrize("options", [{"region": "us-east-1"}, {"endpoint_url": "http://127.0.0.1:1"}])
def test_a_client_of_ones_own_goes_with_no_region_and_no_endpoint(moto_s3: S3, options: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="has its own region and endpoint_url"):
        S3JSONAdapter("bucket", table="users", client=moto_s3.client, **options)  # type: ignore[arg-type] # as given


@pytest.mark.parametrize("client", [boto3, "client", boto3.session.Session], ids=range(3))
def test_a_client_that_is_none_is_refused(client: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"as boto3.client\('s3'\) makes it"):
        S3JSONAdapter("bucket", table="users", client=client)


def test_an_adapter_tells_what_it_is_and_what_it_can() -> None:
    adapter = S3JSONAdapter("bucket", "a/b/", table="users")
    assert repr(adapter) == "S3JSONAdapter('s3://bucket/a/b', table='users')"
    assert isinstance(adapter, Adapter)
    assert not adapter.capabilities.publishing
    assert S3JSONAdapter("bucket", table="users", publish=True).capabilities.publishing
