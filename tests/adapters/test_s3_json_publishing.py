"""What the S3 JSON adapter publishes: which key, what it holds, and who may replace it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from dynalayer import URL, Layer, MemoryEventLog, StorageError, plain_json
from dynalayer_s3_json import S3JSONAdapter, putting
from dynalayer_s3_json.keys import Keys
from odd_names import ODD_NAMES, related, texts
from s3_servers import S3, Answer, Asked, S3Proxy

KEYS = Keys("cache", "users")
ORIGIN = "0123456789abcdef"


def publisher(s3: S3, table: str = "users", prefix: str = "cache") -> S3JSONAdapter:
    return S3JSONAdapter.from_url(URL.parse(s3.url(prefix, publish="true"), what="storage"), table)


@pytest.fixture
def adapter(s3: S3) -> Iterator[S3JSONAdapter]:
    adapter = publisher(s3)
    yield adapter
    adapter.layer_closed()


def published(s3: S3, key: str = "cache/eu.json") -> Any:
    return json.loads(s3.read(key))


def metadata(s3: S3, key: str = "cache/eu.json") -> dict[str, str]:
    found = s3.client.head_object(Bucket=s3.bucket, Key=key)["Metadata"]
    return {name.lower(): value for name, value in found.items()}


def items(version: int) -> dict[str, dict[str, Any]]:
    return {"one": {"sk": "one", "value": version}}


# What is published


def test_each_sync_publishes_a_partition_as_the_plain_array_that_a_read_gives(s3: S3) -> None:
    log = MemoryEventLog("users")
    with Layer(
        table="users",
        get_item_unique_identifier="sk",
        get_item_partition="pk",
        events=log,
        storage=s3.url("cache", publish="true"),
    ) as layer:
        written = [{"pk": "eu", "sk": name, "n": Decimal("1.50"), "b": b"hi", "s": {2, 1}} for name in ("b", "a", "é")]
        layer.set([{"type": "PUT", "item": item} for item in written])
        layer.set([{"type": "PUT", "item": {"pk": "us", "sk": "x"}}])
        assert s3.listed() == []
        layer.sync()
        assert s3.read("cache/eu.json") == plain_json([written[1], written[0], written[2]])
        assert published(s3, "cache/us.json") == [{"pk": "us", "sk": "x"}]
        answer = s3.client.get_object(Bucket=s3.bucket, Key="cache/eu.json")
        answer["Body"].close()
        assert answer["ContentType"] == "application/json"
        marks = {"dynalayer-table": "users", "dynalayer-origin": log.origin, "dynalayer-version": "1"}
        assert metadata(s3) == marks

        layer.set([{"type": "DELETE", "item": {"pk": "eu", "sk": name}} for name in ("a", "b")])
        assert len(published(s3)) == 3  # it lags until the next sync
        layer.sync()
        assert [item["sk"] for item in published(s3)] == ["é"]
        layer.set([{"type": "DELETE", "item": {"pk": "eu", "sk": "é"}}])
        layer.sync()
        assert published(s3) == []
        assert metadata(s3)["dynalayer-version"] == "3"
        assert layer.vacuum(dry_run=False).discarded == ()
        assert layer.verify().ok


def test_without_publish_nothing_but_segments_is_written(s3: S3) -> None:
    with Layer(table="users", get_item_unique_identifier="sk", events="memory:", storage=s3.url("cache")) as layer:
        layer.set([{"type": "PUT", "item": {"sk": "a"}}])
        layer.sync()
    (key,) = s3.listed()
    assert key.endswith(".segment")


def test_a_large_array_is_published_in_parts_with_its_marks_and_type(
    s3: S3, adapter: S3JSONAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(putting, "_LARGE", 1024)
    for version in (1, 2):
        adapter.layer_publish("eu", ORIGIN, version, {"one": {"sk": "one", "value": "x" * 5000, "n": version}})
        assert published(s3)[0]["n"] == version
        assert metadata(s3)["dynalayer-version"] == str(version)
    answer = s3.client.head_object(Bucket=s3.bucket, Key="cache/eu.json")
    assert answer["ContentType"] == "application/json"
    assert "-1" in answer["ETag"] or s3.server == "rclone"


# Who may replace it


def test_an_older_version_does_not_replace_a_newer_one(s3: S3, adapter: S3JSONAdapter) -> None:
    for version, left in ((2, 2), (1, 2), (10, 10), (9, 10), (10, 10), (11, 11)):
        assert adapter.layer_publish("eu", ORIGIN, version, items(version)) is True
        assert published(s3) == [{"sk": "one", "value": left}]


def test_another_log_of_the_table_takes_over_whatever_the_versions(s3: S3, adapter: S3JSONAdapter) -> None:
    adapter.layer_publish("eu", ORIGIN, 1000, items(1000))
    adapter.layer_publish("eu", "made-anew", 1, items(1))
    assert published(s3) == [{"sk": "one", "value": 1}]
    assert metadata(s3)["dynalayer-origin"] == "made-anew"


def test_what_another_table_publishes_is_left_and_the_error_says_whose_it_is(s3: S3, adapter: S3JSONAdapter) -> None:
    other = publisher(s3, "orders")
    other.layer_publish("eu", ORIGIN, 1, items(1))
    with pytest.raises(StorageError, match=f"s3://{s3.bucket}/cache/eu.json is published by a layer of table 'orders'"):
        adapter.layer_publish("eu", ORIGIN, 5, items(5))
    assert published(s3) == [{"sk": "one", "value": 1}]
    s3.delete("cache/eu.json")
    adapter.layer_publish("eu", ORIGIN, 5, items(5))
    assert published(s3) == [{"sk": "one", "value": 5}]
    other.layer_closed()


@pytest.mark.parametrize("found", [{}, {"author": "somebody"}, {"dynalayer-table": "users"}])
def test_the_cache_of_another_program_is_taken_over(s3: S3, adapter: S3JSONAdapter, found: dict[str, str]) -> None:
    s3.client.put_object(Bucket=s3.bucket, Key="cache/eu.json", Body=b'[{"old": true}]', Metadata=found)
    adapter.layer_publish("eu", ORIGIN, 1, items(1))
    assert published(s3) == [{"sk": "one", "value": 1}]


@pytest.mark.parametrize("first", [None, 1])
def test_a_newer_version_that_comes_between_the_look_and_the_put_stays(
    moto_s3: S3, proxy: S3Proxy, first: int | None
) -> None:
    slow, quick = publisher(moto_s3.behind(proxy)), publisher(moto_s3)
    if first:
        quick.layer_publish("eu", ORIGIN, first, items(first))

    def overtake(asked: Asked) -> None:
        if asked.method == "PUT":
            quick.layer_publish("eu", ORIGIN, 7, items(7))

    proxy.rule = overtake
    slow.layer_publish("eu", ORIGIN, 6, items(6))
    assert published(moto_s3) == [{"sk": "one", "value": 7}]
    assert [each.method for each in proxy.asked] == ["HEAD", "PUT", "HEAD"]
    for each in (slow, quick):
        each.layer_closed()


def test_an_older_version_or_nothing_at_all_that_comes_between_is_replaced(moto_s3: S3, proxy: S3Proxy) -> None:
    slow, quick = publisher(moto_s3.behind(proxy)), publisher(moto_s3)
    quick.layer_publish("eu", ORIGIN, 1, items(1))
    puts = iter(range(3))

    def meddle(asked: Asked) -> None:
        number = next(puts) if asked.method == "PUT" else None
        if number == 0:
            moto_s3.delete("cache/eu.json")
        if number == 1:
            quick.layer_publish("eu", ORIGIN, 5, items(5))

    proxy.rule = meddle
    slow.layer_publish("eu", ORIGIN, 6, items(6))
    assert published(moto_s3) == [{"sk": "one", "value": 6}]
    for each in (slow, quick):
        each.layer_closed()


def test_one_who_always_loses_gives_up_and_says_that_trying_again_can_help(moto_s3: S3, proxy: S3Proxy) -> None:
    adapter = publisher(moto_s3.behind(proxy))
    proxy.rule = lambda asked: Answer.error(412, "PreconditionFailed") if asked.method == "PUT" else None
    with pytest.raises(StorageError, match="at each of 16 tries") as raised:
        adapter.layer_publish("eu", ORIGIN, 1, items(1))
    assert raised.value.retryable
    adapter.layer_closed()


def test_a_put_whose_answer_was_lost_is_recognised(moto_s3: S3, proxy: S3Proxy) -> None:
    adapter = publisher(moto_s3.behind(proxy))
    lost = iter([Answer.error(500, "InternalError")])
    proxy.after = lambda asked: next(lost, None) if asked.method == "PUT" else None
    assert adapter.layer_publish("eu", ORIGIN, 1, items(1)) is True
    assert published(moto_s3) == [{"sk": "one", "value": 1}]
    adapter.layer_closed()


def test_a_server_that_knows_no_conditions_is_given_none(moto_s3: S3, proxy: S3Proxy) -> None:
    def ignorant(asked: Asked) -> Answer | None:
        conditional = {"if-match", "if-none-match"} & set(asked.headers)
        return Answer.error(501, "NotImplemented") if asked.method == "PUT" and conditional else None

    proxy.rule = ignorant
    adapter = publisher(moto_s3.behind(proxy))
    for version in (1, 2):
        adapter.layer_publish("eu", ORIGIN, version, items(version))
        assert published(moto_s3) == [{"sk": "one", "value": version}]
    adapter.layer_closed()


# Keys


@pytest.mark.parametrize(
    ("partition", "key"),
    [
        ("", "cache/.json"),
        ("eu", "cache/eu.json"),
        ("a/b c/é%+?.json", "cache/a/b c/é%+?.json.json"),
        ("100%25 of a%2Fb %0A", "cache/100%25 of a%2Fb %0A.json"),  # as others escape: no escape of ours
        (".", "cache/..json"),
        ("..", "cache/...json"),
        ("...", "cache/....json"),
        ("a/..", "cache/a/...json"),
        ("a/", "cache/a/.json"),
        ("...a/..b/c..", "cache/...a/..b/c...json"),
        ("../x", "cache/%2e%2e/x.json"),
        ("./x", "cache/%2e/x.json"),
        ("a/../../b", "cache/a/%2e%2e/%2e%2e/b.json"),
        ("/etc/passwd", "cache/%2fetc/passwd.json"),
        ("a//b", "cache/a/%2fb.json"),
        ("a///b", "cache/a/%2f%2fb.json"),
        ("a/%2fb", "cache/a/%252fb.json"),
        ("a/%252fb", "cache/a/%25252fb.json"),
        ("new\nline\0\x7f", "cache/new%0aline%00%7f.json"),
        ("x" * 512, "cache/" + "x" * 512 + ".json"),
    ],
)
def test_a_partition_has_its_own_name_for_a_key_but_for_what_no_key_can_hold(partition: str, key: str) -> None:
    assert KEYS.published(partition) == key


@given(texts.flatmap(lambda text: st.tuples(st.just(text), related(text) | texts)))
@example(("a//b", "a/%2fb"))
@example(("a/%2fb", "a/%252fb"))
@example(("/" * 512, "/" * 511))
@settings(deadline=None, max_examples=300)
def test_no_two_partitions_share_a_key(pair: tuple[str, str]) -> None:
    one, other = pair
    assume(one != other)
    assert KEYS.published(one) != KEYS.published(other)


@given(*[st.text("%25ef~0/.\n", max_size=6)] * 2)
@settings(deadline=None, max_examples=2000)
def test_no_two_partitions_of_what_escapes_are_made_of_share_a_key(one: str, other: str) -> None:
    assume(one != other)
    assert KEYS.published(one) != KEYS.published(other)


@given(texts.filter(lambda text: len(text.encode()) <= 512), st.sampled_from(["", "cache", "x" * 500]))
@example("\n" * 512, "x" * 500)
@example("é" * 256, "x" * 500)
@settings(deadline=None, max_examples=300)
def test_a_key_fits_and_has_no_part_that_others_resolve_or_refuse(partition: str, prefix: str) -> None:
    key = Keys(prefix, "users").published(partition)
    assert len(key.encode()) <= 1024
    assert not {"", ".", ".."} & set(key.split("/"))
    assert not any(ord(character) < 32 or ord(character) == 127 for character in key)
    assert key.startswith(f"{prefix}/" if prefix else "")
    assert key.endswith(".json")


def test_odd_partitions_are_published_each_at_its_key_and_hide_no_segment(s3: S3, adapter: S3JSONAdapter) -> None:
    # rclone keeps an object as a file, whose name is at most 255 bytes.
    fits = [name for name in ODD_NAMES if s3.server == "moto" or len(KEYS.published(name)) < 240]
    for number, name in enumerate(fits):
        adapter.layer_publish(name, ORIGIN, 1, {"one": {"sk": "one", "value": number}})
    for number, name in enumerate(fits):
        assert published(s3, KEYS.published(name)) == [{"sk": "one", "value": number}]
    assert len(s3.listed()) == len(fits) > 40
    assert not any(adapter.layer_list(name) for name in fits)
