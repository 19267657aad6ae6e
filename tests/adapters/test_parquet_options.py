"""What the Parquet adapter is opened with: what is refused, and that nothing secret is kept in a URL or told."""

from __future__ import annotations

import errno
import secrets
import socket
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import s3fs
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options

from dynalayer import (
    URL,
    ConfigurationError,
    Layer,
    Segment,
    SegmentCorruptError,
    SegmentMissingError,
    StorageError,
)
from dynalayer_parquet import ParquetAdapter
from s3_servers import S3, S3Proxy

SEGMENT = Segment("users", "eu", "0123456789abcdef", "base", 0, 1, {"one": {"sk": "one"}})
ENDPOINT = "https://me:hidden@host"


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


# Credentials


@pytest.fixture
def far() -> Iterator[type[Far]]:
    """A file system on a host, as FTP is."""
    fsspec.register_implementation("far", Far, clobber=True)
    yield Far
    Far.store.clear()
    Far.failing = None
    Far.asked = {}


class Far(MemoryFileSystem):  # type: ignore[misc] # fsspec has no types
    """It takes its host from the URL, and connects when it is made."""

    protocol = "far"
    store: dict[str, Any] = {}  # noqa: RUF012 -- as fsspec has it: all of a protocol share one
    pseudo_dirs = [""]  # noqa: RUF012 -- likewise
    failing: Exception | None = None
    asked: dict[str, Any] = {}  # noqa: RUF012 -- likewise

    def __init__(self, host: str, port: int = 21, depth: str = "1", **options: Any) -> None:
        super().__init__(**options)
        type(self).asked = {"host": host, "port": port, **options}
        if self.failing is not None:
            raise self.failing
        int(depth)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        if self.failing is not None:
            raise self.failing
        return bytes(super().cat_file(path, start, end, **options))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(infer_storage_options(path)["path"]).rstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        return {name: value for name, value in infer_storage_options(path).items() if name in ("host", "port")}


@pytest.mark.parametrize(
    "option",
    [
        "client_secret=hidden",
        "connection_string=AccountKey=hidden",
        "AccountKey=hidden",
        "sas_token=hidden",
        "sas=hidden",
        "token=hidden",
        "passwd=hidden",
        "PASSWORD=hidden",
        "credential=hidden",
        "username=hidden",
        "user=hidden",
        "acct=hidden",
        "headers=hidden",
        "place=DefaultEndpointsProtocol%3Dhttps%3BAccountKey%3Dhidden",
        "proxy=http://me:hidden@proxy",
    ],
)
def test_no_option_that_may_hold_credentials_is_taken_from_a_url(far: type[Far], option: str) -> None:
    with pytest.raises(ConfigurationError, match="does not belong in a URL") as refused:
        opened(f"parquet+far://host/p?{option}")
    assert "hidden" not in str(refused.value)


def test_options_that_are_harmless_are_taken_from_a_url(far: type[Far]) -> None:
    opened("parquet+far://host/p?depth=2&project=disasters&account_name=storage1")
    assert Far.asked["account_name"] == "storage1"


@pytest.mark.parametrize("options", [{"endpoint_url": ENDPOINT}, {"client_kwargs": {"endpoint_url": ENDPOINT}}])
def test_an_endpoint_with_credentials_is_refused_in_python_too(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="endpoint_url holds credentials") as refused:
        ParquetAdapter("s3://bucket/x", "users", storage_options=options)
    assert "hidden" not in str(refused.value)


def test_a_root_with_a_password_is_refused_and_one_with_a_container_is_not(far: type[Far]) -> None:
    with pytest.raises(ConfigurationError, match="root holds credentials") as refused:
        ParquetAdapter("far://me:hidden@host/p", "users")
    assert "hidden" not in str(refused.value)
    ParquetAdapter("far://container@host/p", "users")


def test_a_file_system_that_cannot_be_made_tells_no_options_value(far: type[Far]) -> None:
    hidden = secrets.token_hex()
    with pytest.raises(ConfigurationError, match="no file system 'far' can be made: invalid literal") as refused:
        ParquetAdapter("far://host/p", "users", storage_options={"depth": hidden})
    assert hidden not in told_with_causes(refused.value)


def test_no_error_and_no_repr_tells_a_password_or_what_stands_before_a_host(far: type[Far]) -> None:
    password, of_proxy = secrets.token_hex(), secrets.token_hex()
    adapter = ParquetAdapter("far://host/p", "users", storage_options={"deep": {"password": password}})
    Far.failing = OSError(f"no answer of http://me:{of_proxy}@proxy/\nto me with {password}")
    with pytest.raises(StorageError, match=r"read far://host/p/users/eu/x.parquet: OSError: no answer") as failed:
        adapter.layer_getter("eu", "x.parquet")
    told = told_with_causes(failed.value) + repr(adapter)
    assert password not in told
    assert of_proxy not in told
    assert "\n" not in str(failed.value)


def told_with_causes(error: Exception) -> str:
    return "".join(traceback.format_exception(error))


# On a host


def test_the_host_and_port_of_a_url_are_those_that_are_asked(far: type[Far]) -> None:
    adapter = opened("parquet+far://host:2121/p")
    assert (Far.asked["host"], Far.asked["port"]) == ("host", 2121)
    assert repr(adapter) == "ParquetAdapter('far://host:2121/p/users')"
    ref = adapter.layer_setter("eu", SEGMENT)
    assert adapter.layer_getter("eu", ref) == SEGMENT
    with pytest.raises(ConfigurationError, match="no file system 'far' can be made"):
        opened("parquet+far:///p")


def test_the_host_of_an_ftp_url_is_the_one_that_is_asked_and_one_that_does_not_answer_is_told_in_a_line() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # and nobody listens
        with pytest.raises(StorageError, match="'ftp' cannot be reached: ConnectionRefusedError") as told:
            opened(f"parquet+ftp://127.0.0.1:{unheard.getsockname()[1]}/p")
    assert told.value.retryable
    assert "\n" not in str(told.value)


def test_what_a_file_system_raises_while_it_connects_is_told_in_a_line(far: type[Far]) -> None:
    hidden = secrets.token_hex()
    Far.failing = RuntimeError(f"the handshake\nfailed at //me:{hidden}@host")
    with pytest.raises(StorageError, match="cannot be reached: RuntimeError: the handshake failed at //host") as failed:
        opened("parquet+far://host/p")
    assert not failed.value.retryable
    assert hidden not in told_with_causes(failed.value)


# On this machine


def test_a_file_in_the_folders_place_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "snapshots"
    path.write_text("a file")
    with pytest.raises(ConfigurationError, match=f"{path} is a file; parquet\\+file: keeps its segments in a folder"):
        opened(f"parquet+file:{path}")


def test_a_temporary_folder_that_is_gone_is_told_and_no_segment_is_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    place = f"parquet+memory://{tmp_path.name}"
    with Layer(table="users", get_item_unique_identifier="sk", events="memory:", storage=place) as layer:
        layer.set([{"type": "PUT", "item": {"sk": "a"}}])
        with pytest.raises(StorageError, match=f"{tmp_path / 'gone'}: No such file.*TMPDIR") as told:
            layer.sync()
        assert not isinstance(told.value, SegmentMissingError)
        assert not told.value.retryable
        monkeypatch.undo()
        assert layer.sync().count == 1


@pytest.mark.parametrize("when", ["made", "filled"])
def test_a_temporary_folder_that_is_full_is_told_and_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def unmade(**options: object) -> object:
        raise full

    def unfilled(**options: object) -> object:
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", unmade if when == "made" else unfilled)
    adapter = opened(f"parquet+memory://{tmp_path.name}")
    with pytest.raises(StorageError, match=f"{tempfile.gettempdir()}: No space left.*the disk is full") as told:
        adapter.layer_setter("eu", SEGMENT)
    assert told.value.retryable
    assert adapter.layer_list("eu") == []


# Objects that are empty


def test_an_empty_object_is_corrupt_and_named_whichever_way_it_is_read(s3: S3) -> None:
    adapter = opened(s3.url(scheme="parquet+s3"))
    ref = adapter.layer_setter("eu", SEGMENT)
    (key,) = s3.listed()
    s3.write(key, b"")
    for read in (adapter.layer_getter, adapter.layer_columns):
        with pytest.raises(SegmentCorruptError, match=f"{key} is corrupt or no Parquet file.*restore it"):
            read("eu", ref)


# Closing


def test_closing_a_layer_closes_its_connections_and_it_may_be_closed_twice_and_used_on(
    moto_s3: S3, proxy: S3Proxy
) -> None:
    before = sockets()
    adapter = opened(moto_s3.behind(proxy).url(scheme="parquet+s3"))
    adapter.layer_closed()  # before anything was asked
    layer = Layer(table="users", get_item_unique_identifier="sk", events="memory:", storage=adapter)
    layer.set([{"type": "PUT", "item": {"sk": "a"}}])
    layer.sync()
    assert sockets() - before
    layer.close()
    assert are_closed(before)
    adapter.layer_closed()
    ref = adapter.layer_setter("eu", SEGMENT)
    assert adapter.layer_getter("eu", ref) == SEGMENT
    adapter.layer_closed()
    assert are_closed(before)


def test_a_file_system_of_ones_own_stays_open(moto_s3: S3, proxy: S3Proxy) -> None:
    own = s3fs.S3FileSystem(client_kwargs={"endpoint_url": proxy.url}, skip_instance_cache=True)
    adapter = ParquetAdapter(f"s3://{moto_s3.bucket}/x", "users", filesystem=own)
    ref = adapter.layer_setter("eu", SEGMENT)
    before = sockets()
    adapter.layer_closed()
    assert sockets() == before
    assert adapter.layer_getter("eu", ref) == SEGMENT
    own.close_session(own.loop, own._s3creator)


def sockets() -> set[str]:
    """This process's; those of fsspec's event loop, which is made once, are among them from the first time on."""
    fsspec.asyn.get_loop()
    return {found for each in Path("/proc/self/fd").iterdir() if (found := link(each)).startswith("socket:")}


def are_closed(before: set[str]) -> bool:
    """Whether no more sockets are open than before, once the proxy, whose ends they are too, has seen it."""
    until = time.monotonic() + 3
    while sockets() - before and time.monotonic() < until:
        time.sleep(0.01)
    return not sockets() - before


def link(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:  # the listing's own
        return ""
