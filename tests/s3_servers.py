"""Servers that stand for S3, one of a kind in each test process, and one in between that misbehaves.

`moto_server` is moto's. `rclone_server` is `rclone serve s3`, of other habits: it ignores conditions, answers ranges
with status 200, changes the case of metadata, refuses keys with empty parts, and keeps objects as files. The fixture
`s3` gives a fresh bucket on each of them, `moto_s3` on the first alone.
"""

from __future__ import annotations

import http.client
import re
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode, urlsplit

import pytest

import servers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

STARTED = re.compile(rb"Starting s3 server on \[(http://[^\]/]+)/?\]")


@dataclass(frozen=True)
class S3:
    """A bucket that nobody else uses.

    Attributes:
        server: `"moto"` or `"rclone"`.
        endpoint_url: Where it is served.
        bucket: Its name.
        client: A boto3 client that tries once; closed after the test.
        environment: With which other programs find credentials and region; this process has it too.
    """

    server: str
    endpoint_url: str
    bucket: str
    client: S3Client
    environment: Mapping[str, str] = field(default_factory=lambda: dict(servers.ENVIRONMENT))

    def url(self, prefix: str = "snapshots", *, scheme: str = "s3-json", **options: str) -> str:
        """A URL for a layer's `storage`."""
        query = urlencode({"region": servers.REGION, "endpoint_url": self.endpoint_url, **options})
        return f"{scheme}://{self.bucket}/{quote(prefix)}?{query}"

    def behind(self, proxy: S3Proxy) -> S3:
        """The same bucket, asked through a proxy."""
        return replace(self, endpoint_url=proxy.url)

    def listed(self, prefix: str = "") -> list[str]:
        """The keys of all objects, sorted."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(each["Key"] for page in pages for each in page.get("Contents", ()))

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def write(self, key: str, body: bytes) -> None:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.bucket, Key=key)


@pytest.fixture(scope="session")
def rclone_server(aws_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of rclone's server; a bucket is a folder below its root."""
    keys = f"{servers.ENVIRONMENT['AWS_ACCESS_KEY_ID']},{servers.ENVIRONMENT['AWS_SECRET_ACCESS_KEY']}"
    command = [
        str(Path(sys.prefix) / "bin" / "rclone"),
        *("serve", "s3", str(tmp_path_factory.mktemp("rclone"))),
        *("--addr", "127.0.0.1:0", "--auth-key", keys, "--config", "/dev/null"),
    ]
    with tempfile.NamedTemporaryFile() as log:
        process = servers.start_watched(command, log)
        try:
            until = time.monotonic() + servers.PATIENCE
            while not (started := STARTED.search(Path(log.name).read_bytes())):
                if process.poll() is not None or time.monotonic() > until:
                    said = Path(log.name).read_text(errors="replace")
                    pytest.fail(f"rclone did not start:\n{said[-4000:]}", pytrace=False)
                time.sleep(0.02)
            yield started[1].decode()
        finally:
            servers.stop(process)


@pytest.fixture(params=["moto", "rclone"])
def s3(request: pytest.FixtureRequest) -> Iterator[S3]:
    """A fresh bucket on each server."""
    with fresh_bucket(request.param, request.getfixturevalue(f"{request.param}_server")) as bucket:
        yield bucket


@pytest.fixture
def moto_s3(moto_server: str) -> Iterator[S3]:
    """A fresh bucket on moto's server."""
    with fresh_bucket("moto", moto_server) as bucket:
        yield bucket


@contextmanager
def fresh_bucket(server: str, endpoint_url: str) -> Iterator[S3]:
    """A bucket under a name that nobody has. It stays: the server does not outlive the tests."""
    name = f"test-{secrets.token_hex(8)}"
    with closing(s3_client(endpoint_url)) as client:
        client.create_bucket(Bucket=name)
        yield S3(server, endpoint_url, name, client)


def s3_client(endpoint_url: str) -> S3Client:
    """A client that tries once: what fails is seen by the test, which closes it."""
    from botocore.config import Config  # noqa: PLC0415 -- heavy, and few tests need it

    config = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=10, read_timeout=30)
    return servers.session().client("s3", endpoint_url=endpoint_url, region_name=servers.REGION, config=config)


@dataclass(frozen=True)
class Asked:
    """A request that a proxy was sent."""

    method: str
    key: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def access_key(self) -> str:
        found = re.search(r"Credential=([^/]+)/", self.headers.get("authorization", ""))
        return found[1] if found else ""


@dataclass(frozen=True)
class Answer:
    """What a proxy answers by itself.

    Attributes:
        status: The HTTP status; 0 for no answer: the connection is closed.
        body: The body, or all that was to come of it.
        headers: Headers; the length is told by itself.
        cut: How much of the body comes before the connection breaks off; None for all.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None

    @classmethod
    def error(cls, status: int, code: str, message: str = "so it is", **elements: str) -> Answer:
        """An error as S3 tells it."""
        inner = {"Code": code, "Message": message, **elements}
        text = "".join(f"<{name}>{value}</{name}>" for name, value in inner.items())
        return cls(status, f"<?xml version='1.0'?><Error>{text}</Error>".encode(), {"Content-Type": "application/xml"})


Rule = Callable[[Asked], Answer | None]
"""Says what to answer in place of the server, or None to let the server answer."""


class S3Proxy:
    """A server in front of an S3 server.

    Attributes:
        url: Where it is.
        rule: What it answers by itself; changed at any moment.
        after: Likewise, but the server behind has done the request by then.
        asked: The requests so far, in order.
    """

    def __init__(self, url: str, upstream: str) -> None:
        self.url = url
        self.upstream = urlsplit(upstream).netloc
        self.rule: Rule = lambda asked: None
        self.after: Rule = lambda asked: None
        self.asked: list[Asked] = []

    def count(self, method: str) -> int:
        return sum(each.method == method for each in self.asked)

    def answer(self, asked: Asked, path: str) -> Answer:
        self.asked.append(asked)
        by_itself = self.rule(asked)
        if by_itself is not None:
            return by_itself
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        with closing(connection):
            connection.putrequest(asked.method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in asked.headers.items():
                if name not in ("expect", "connection"):
                    connection.putheader(name, value)
            connection.endheaders(asked.body)
            response = connection.getresponse()
            body = response.read()
            headers = dict(response.getheaders())
        return self.after(asked) or Answer(response.status, body, headers)


@contextmanager
def s3_proxy(upstream: str) -> Iterator[S3Proxy]:
    """A proxy in front of a server, on a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            path, _, query = self.path.partition("?")
            key = unquote(path).lstrip("/").partition("/")[2]
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = between.answer(Asked(self.command, key, query, headers, self.rfile.read(length)), self.path)
            if not answer.status:
                self.close_connection = True
                return
            self.send_response(answer.status)
            own = {"content-length", "transfer-encoding", "connection"}
            for name, value in answer.headers.items():
                if name.lower() not in own or (self.command == "HEAD" and name.lower() == "content-length"):
                    self.send_header(name, value)
            if self.command != "HEAD":
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body[: answer.cut])
            self.close_connection = self.close_connection or answer.cut is not None

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do  # noqa: N815 -- the library's names

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the library's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        between = S3Proxy(f"http://127.0.0.1:{server.server_port}", upstream)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield between
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy(moto_server: str) -> Iterator[S3Proxy]:
    """A proxy in front of moto's server."""
    with s3_proxy(moto_server) as proxy:
        yield proxy
