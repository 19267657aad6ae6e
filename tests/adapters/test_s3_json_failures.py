"""What the S3 JSON adapter says when something is wrong, what stays pending then, and that no secret is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import pytest

import servers
from dynalayer import (
    URL,
    Layer,
    MemoryEventLog,
    Segment,
    SegmentCorruptError,
    SegmentMissingError,
    StorageError,
)
from dynalayer_s3_json import S3JSONAdapter, connection
from s3_servers import S3, Answer, Asked, S3Proxy

SECRET = servers.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]
ORIGIN = "0123456789abcdef"


@pytest.fixture(autouse=True)
def one_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """botocore's waits between tries are its own matter."""
    monkeypatch.setattr(connection, "_TRIES", 1)


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
            Layer(table="users", get_item_unique_identifier="sk", get_item_partition="pk", events=log, storage=url)
        )
        return layers[-1]

    yield layer
    for each in layers:
        each.close()


@pytest.fixture
def adapter(moto_s3: S3, proxy: S3Proxy) -> Iterator[S3JSONAdapter]:
    """An adapter behind the proxy, that publishes."""
    adapter = S3JSONAdapter.from_url(URL.parse(moto_s3.behind(proxy).url(publish="true"), what="storage"), "users")
    yield adapter
    adapter.layer_closed()


def segment_of(partition: str) -> Segment:
    return Segment("users", partition, ORIGIN, "base", 0, 1, {"one": {"sk": "one", "value": 1}})


def put(layer: Layer, *identifiers: str) -> None:
    layer.set([{"type": "PUT", "item": {"pk": "eu", "sk": each}} for each in identifiers])


def expected(*identifiers: str) -> list[dict[str, str]]:
    return [{"pk": "eu", "sk": each} for each in sorted(identifiers)]


def failed_sync(layer: Layer) -> StorageError:
    """A sync that fails, and leaves everything pending and readable."""
    before, items = layer.meta().unsynced_total, layer.get("eu")
    with pytest.raises(StorageError) as raised:
        layer.sync()
    assert (layer.meta().unsynced_total, layer.get("eu")) == (before, items)
    assert (raised.value.operation, raised.value.partition, raised.value.adapter) == ("sync", "eu", "s3-json")
    assert SECRET not in str(raised.value)
    return raised.value


# The bucket


def test_a_missing_bucket_is_told_with_how_to_make_it_and_once_made_everything_is_folded(s3: S3, opened: Open) -> None:
    name = f"{s3.bucket}-later"
    layer = opened(s3.url().replace(s3.bucket, name))
    put(layer, "one")
    error = failed_sync(layer)
    assert f"s3://{name}/snapshots/users/eu/" in str(error)
    assert f"NoSuchBucket: The specified bucket does not exist; make it with 'aws s3 mb s3://{name}'" in str(error)
    assert not error.retryable
    with pytest.raises(StorageError, match="make it with"):
        layer.vacuum()
    s3.client.create_bucket(Bucket=name)
    assert layer.sync().count == 1
    assert opened(s3.url().replace(s3.bucket, name)).get("eu") == expected("one")


def forbidding(action: str) -> Callable[[Asked], Answer | None]:
    """A rule that forbids one thing."""

    def rule(asked: Asked) -> Answer | None:
        what = {
            "GET": "list" if "list-type" in asked.query else "get",
            "PUT": "put",
            "DELETE": "delete",
            "HEAD": "head",
        }
        return Answer.error(403, "AccessDenied", "Access Denied") if what.get(asked.method) == action else None

    return rule


@pytest.mark.parametrize(
    ("action", "permission", "on"),
    [
        ("put", "s3:PutObject", "/snapshots/users/eu/"),
        ("get", "s3:GetObject", "/snapshots/users/eu/"),
        ("list", "s3:ListBucket", ", "),
        ("delete", "s3:DeleteObject", "/snapshots/users/eu/"),
        ("head", "s3:GetObject", "/snapshots/eu.json"),
    ],
)
def test_what_is_forbidden_names_the_permission_and_on_what(
    adapter: S3JSONAdapter, proxy: S3Proxy, moto_s3: S3, action: str, permission: str, on: str
) -> None:
    ref = adapter.layer_setter("eu", segment_of("eu"))
    proxy.rule = forbidding(action)
    calls: dict[str, Callable[[], object]] = {
        "put": lambda: adapter.layer_setter("eu", segment_of("eu")),
        "get": lambda: adapter.layer_getter("eu", ref),
        "list": lambda: adapter.layer_list("eu"),
        "delete": lambda: adapter.layer_discard("eu", ref),
        "head": lambda: adapter.layer_publish("eu", ORIGIN, 1, {}),
    }
    with pytest.raises(StorageError) as raised:
        calls[action]()
    assert f"needs {permission} on arn:aws:s3:::{moto_s3.bucket}{on}".rstrip(", ") in str(raised.value)
    assert not isinstance(raised.value, SegmentMissingError)
    assert not raised.value.retryable
    assert SECRET not in str(raised.value)


def test_a_key_that_is_denied_is_told_in_s3s_own_words_with_the_permissions(
    opened: Open, proxy: S3Proxy, moto_s3: S3
) -> None:
    said = "User: arn:aws:iam::1:user/me is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:x"
    proxy.rule = lambda asked: Answer.error(403, "AccessDenied", said) if asked.method == "PUT" else None
    layer = opened(moto_s3.behind(proxy).url(sse="aws:kms", kms_key_id="k"))
    put(layer, "one")
    error = failed_sync(layer)
    assert said in str(error)
    assert "kms:GenerateDataKey and kms:Decrypt where a KMS key encrypts" in str(error)
    proxy.rule = lambda asked: Answer.error(400, "KMS.DisabledException", "arn:aws:kms:x is disabled.")
    assert "KMS.DisabledException: arn:aws:kms:x is disabled.; look at the key" in str(failed_sync(layer))


# Regions and endpoints


@pytest.mark.parametrize(
    "answer",
    [
        Answer.error(400, "AuthorizationHeaderMalformed", Region="eu-west-1"),
        Answer.error(400, "IllegalLocationConstraintException"),
        Answer(301, headers={"x-amz-bucket-region": "eu-west-1"}),
    ],
    ids=["signature", "constraint", "redirect"],
)
def test_a_wrong_region_is_told_with_the_right_one_where_s3_tells_it(
    opened: Open, proxy: S3Proxy, moto_s3: S3, answer: Answer
) -> None:
    proxy.rule = lambda asked: answer
    layer = opened(moto_s3.behind(proxy).url())
    put(layer, "one")
    told = "is in another region, or at another" if b"Constraint" in answer.body else "say so with region=eu-west-1"
    assert told in str(failed_sync(layer))
    proxy.rule = lambda asked: None
    assert layer.sync().count == 1


def test_an_endpoint_that_nobody_serves_is_told_and_can_be_tried_again(opened: Open, aws_environment: None) -> None:
    layer = opened(f"s3-json://bucket/prefix?endpoint_url=http://127.0.0.1:{servers.free_port()}")
    put(layer, "one")
    error = failed_sync(layer)
    assert "Could not connect to the endpoint URL" in str(error)
    assert "look at the network, region and endpoint_url" in str(error)
    assert error.retryable


PAGE = b"<!doctype html><html><body>Hello</body></html>"


@pytest.mark.parametrize("status", [200, 301, 404, 405])
@pytest.mark.parametrize("body", [PAGE, b"", b'{"a": 1}', b"<html/>"], ids=["page", "empty", "json", "xml"])
def test_what_is_not_s3_is_found_out_whatever_it_answers(
    adapter: S3JSONAdapter, proxy: S3Proxy, status: int, body: bytes
) -> None:
    ref = adapter.layer_setter("eu", segment_of("eu"))
    proxy.rule = lambda asked: Answer(status, body, {"Content-Type": "text/html", "Location": "https://127.0.0.1/"})
    with pytest.raises(StorageError, match="look at endpoint_url"):
        adapter.layer_setter("eu", segment_of("eu"))
    with pytest.raises(StorageError, match="look at endpoint_url"):
        adapter.layer_list("eu")
    with pytest.raises(StorageError) as raised:
        adapter.layer_getter("eu", ref)
    assert not isinstance(raised.value, SegmentMissingError)
    assert isinstance(raised.value, SegmentCorruptError) == (status == 200)


def test_credentials_in_an_endpoint_of_the_environment_are_not_told(
    opened: Open, aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://me:hidden@127.0.0.1:{servers.free_port()}")
    layer = opened("s3-json://bucket/prefix")
    put(layer, "one")
    assert "hidden" not in str(failed_sync(layer))


# Credentials


def test_credentials_that_run_out_in_the_middle_of_a_sync_leave_everything_pending_until_they_are_renewed(
    opened: Open, proxy: S3Proxy, moto_s3: S3, log: MemoryEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = opened(moto_s3.behind(proxy).url(publish="true"))
    put(layer, "zero")
    layer.sync()
    put(layer, "one", "two")
    layer.set([{"type": "PUT", "item": {"pk": "us", "sk": "x"}}])
    puts = iter(range(1000))
    expired: set[str] = set()

    def rule(asked: Asked) -> Answer | None:
        if asked.method == "PUT" and next(puts) == 1:  # the segment is there by then, and the array is not
            expired.add(asked.access_key)
        if asked.access_key in expired:
            return Answer.error(400, "ExpiredToken", "The provided token has expired.", **{"Token-0": SECRET})
        return None

    proxy.rule = rule
    error = failed_sync(layer)
    assert "ExpiredToken: The provided token has expired.; the credentials are wrong or have run out" in str(error)
    assert SECRET not in "".join(getattr(error, "__notes__", ()))
    assert failed_sync(layer).retryable is False
    assert layer.meta().unsynced_total == 3
    assert log.head("eu").version == 1

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed-access-key")
    assert layer.sync().count == 3
    assert {each.access_key for each in proxy.asked} == {"testing-access-key", "renewed-access-key"}
    fresh = opened(moto_s3.url())
    assert fresh.get("eu") == expected("zero", "one", "two")
    assert fresh.get("us") == [{"pk": "us", "sk": "x"}]
    layer.vacuum(dry_run=False)
    assert len(moto_s3.listed()) == 3 + 2
    assert fresh.verify().ok


def test_without_credentials_the_error_says_where_boto3_looks(
    opened: Open, moto_s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = opened(moto_s3.url())
    put(layer, "one")
    with monkeypatch.context() as patch:
        patch.delenv("AWS_ACCESS_KEY_ID")
        patch.delenv("AWS_SECRET_ACCESS_KEY")
        error = failed_sync(layer)
        assert "boto3 finds credentials in its own chain: environment, profile, role" in str(error)
        patch.setenv("AWS_ACCESS_KEY_ID", "half")
        assert "Partial credentials found" in str(failed_sync(layer))
    assert layer.sync().count == 1


def test_a_profile_that_is_not_there_is_told(opened: Open, moto_s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = opened(moto_s3.url())
    put(layer, "one")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_PROFILE", "nobody")
        assert "The config profile (nobody) could not be found" in str(failed_sync(layer))
    assert layer.sync().count == 1


def test_keys_that_are_wrong_are_told_and_the_secret_is_not(
    opened: Open, rclone_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = opened(f"s3-json://bucket/prefix?endpoint_url={rclone_server}")
    put(layer, "one")
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-hidden")
        error = failed_sync(layer)
    assert "SignatureDoesNotMatch" in str(error)
    assert "the credentials are wrong" in str(error)
    assert "hidden" not in str(error)


# Busy, broken, cut short


@pytest.mark.parametrize(
    "answer",
    [
        Answer.error(503, "SlowDown", "Please reduce your request rate."),
        Answer.error(500, "InternalError"),
        Answer.error(503, "ServiceUnavailable"),
        Answer(502, b"<html>Bad gateway</html>"),
        Answer(429),
    ],
    ids=["slow", "internal", "unavailable", "gateway", "many"],
)
def test_what_is_busy_can_be_tried_again_and_then_everything_is_folded(
    opened: Open, proxy: S3Proxy, moto_s3: S3, answer: Answer
) -> None:
    layer = opened(moto_s3.behind(proxy).url())
    put(layer, "one")
    proxy.rule = lambda asked: answer
    assert failed_sync(layer).retryable
    proxy.rule = lambda asked: None
    assert layer.sync().count == 1
    assert layer.verify().ok


def test_the_client_that_is_made_tries_again_by_itself_within_bounds(
    adapter: S3JSONAdapter, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_TRIES", 3)
    busy = iter([Answer.error(503, "SlowDown")] * 2)
    proxy.rule = lambda asked: next(busy, None)
    ref = adapter.layer_setter("eu", segment_of("eu"))
    assert proxy.count("PUT") == 3
    assert adapter.layer_list("eu") == [ref]
    proxy.rule = lambda asked: Answer.error(503, "SlowDown")
    with pytest.raises(StorageError, match="SlowDown"):
        adapter.layer_list("eu")
    assert proxy.count("GET") == 1 + 3


def test_a_put_that_was_done_though_its_answer_was_lost_is_done_again_in_the_same_place(
    adapter: S3JSONAdapter, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "_TRIES", 2)
    lost = iter([Answer(500, cut=0)])
    proxy.after = lambda asked: next(lost, None)
    ref = adapter.layer_setter("eu", segment_of("eu"))
    assert adapter.layer_list("eu") == [ref]


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_an_answer_that_breaks_off_is_an_error_that_can_be_tried_again(
    opened: Open, proxy: S3Proxy, moto_s3: S3, share: float
) -> None:
    layer = opened(moto_s3.url())
    put(layer, "one")
    layer.sync()
    (key,) = moto_s3.listed()
    body = moto_s3.read(key)
    fresh = opened(moto_s3.behind(proxy).url())
    proxy.rule = lambda asked: Answer(200, body, {"ETag": '"x"'}, cut=int(len(body) * share))
    with pytest.raises(
        StorageError, match=f"s3://{moto_s3.bucket}/{key} broke off in its answer to GetObject"
    ) as raised:
        fresh.get("eu")
    assert raised.value.retryable
    assert not isinstance(raised.value, SegmentCorruptError)
    proxy.rule = lambda asked: None
    assert fresh.get("eu") == expected("one")


# Objects that are not what was stored


def newer(body: bytes) -> bytes:
    return body.replace(b'"format":1', b'"format":2')


def flipped(body: bytes) -> bytes:
    return body[:-9] + bytes([body[-9] ^ 4]) + body[-8:]


@pytest.mark.parametrize("damage", [newer, flipped])
def test_an_object_that_is_not_what_was_stored_is_an_error_that_names_it_and_never_an_answer(
    s3: S3, opened: Open, damage: Callable[[bytes], bytes]
) -> None:
    layer = opened(s3.url())
    put(layer, "one")
    layer.sync()
    (key,) = s3.listed()
    body = s3.read(key)
    assert damage(body) != body
    s3.write(key, damage(body))
    fresh = opened(s3.url())
    with pytest.raises(SegmentCorruptError, match=f"s3://{s3.bucket}/{key}") as raised:
        fresh.get("eu")
    assert ("newer dynalayer" in str(raised.value)) == (damage is newer)
    assert [each.partition for each in fresh.verify().findings] == ["eu"]
    s3.write(key, body)
    assert fresh.get("eu") == expected("one")


def test_an_object_deleted_under_the_head_is_an_error_that_names_it_and_the_way_out(s3: S3, opened: Open) -> None:
    layer = opened(s3.url())
    put(layer, "one")
    layer.sync()
    (key,) = s3.listed()
    s3.delete(key)
    fresh = opened(s3.url())
    with pytest.raises(SegmentMissingError, match=f"s3://{s3.bucket}/{key}"):
        fresh.get("eu")
    assert [each.partition for each in fresh.verify().findings] == ["eu"]


def test_what_was_damaged_on_the_way_is_found_by_the_checksum_that_s3_keeps(
    adapter: S3JSONAdapter, proxy: S3Proxy, moto_s3: S3
) -> None:
    ref = adapter.layer_setter("eu", segment_of("eu"))
    key = f"snapshots/users/eu/{ref}"
    body = flipped(moto_s3.read(key))
    put_as = next(each for each in proxy.asked if each.method == "PUT").headers["x-amz-checksum-crc32"]
    proxy.rule = lambda asked: Answer(200, body, {"x-amz-checksum-crc32": put_as})
    with pytest.raises(SegmentCorruptError, match=f"s3://{moto_s3.bucket}/{key} does not match its checksum") as raised:
        adapter.layer_getter("eu", ref)
    assert raised.value.retryable
    proxy.rule = lambda asked: None
    assert adapter.layer_getter("eu", ref).items


def test_no_secret_is_in_any_repr(adapter: S3JSONAdapter, moto_s3: S3) -> None:
    adapter.layer_setter("eu", segment_of("eu"))
    assert os.environ["AWS_SECRET_ACCESS_KEY"] == SECRET
    shown = f"{adapter!r} {adapter._connection!r} {adapter._objects!r} {vars(adapter)!r} {vars(adapter._connection)!r}"
    assert SECRET not in shown
