"""What goes wrong with a request is told in the service's words, without secrets, and with what can help."""

from __future__ import annotations

import http.server
import socket
import ssl
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.config import Config
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError, SSLError
from urllib3.exceptions import SSLError as TransportSSLError

import servers
from dynalayer import AppendError, ConfigurationError, DynamoDBEventLog, EventLogError
from dynalayer.eventlog.dynamodb import connection, moves, slots

from .dynamodb_fakes import Clocks, Table, after, append, draft, folds, fresh, page, refuses


@pytest.fixture
def table(moto_server: str) -> Iterator[Table]:
    with fresh(moto_server) as table:
        yield table


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    for module in (connection, moves, slots):
        monkeypatch.setattr(module, "time", clocks)
    return clocks


def refusal(call: Callable[[], object]) -> EventLogError:
    with pytest.raises(EventLogError) as caught:
        call()
    return caught.value


# The service's words


def test_a_refusal_is_told_by_its_code_and_message_alone(table: Table) -> None:
    table.wire.plan("DescribeTable", refuses("ValidationException", "One or more values were invalid"))
    assert refusal(table.open).message == (
        f"dynamodb://{table.name} refused describe_table: ValidationException: One or more values were invalid"
    )


def test_a_cancelled_transaction_is_told_by_its_code_and_message(table: Table, clocks: Clocks) -> None:
    log = table.open()
    append(log, "a")
    reasons = [{"Code": "ValidationError", "Message": "too large"}]
    table.wire.plan(
        "TransactWriteItems", refuses("TransactionCanceledException", "cancelled", CancellationReasons=reasons)
    )
    error = refusal(lambda: log.move_head("eu", folds(log)))
    assert error.message.endswith("cancelled transact_write_items: TransactionCanceledException: cancelled")


@pytest.mark.parametrize("status", [301, 403])
def test_an_answer_without_words_is_told_by_its_status_with_where_to_look(
    table: Table, clocks: Clocks, status: int
) -> None:
    table.wire.plan("DescribeTable", *[page(status)] * 12)
    message = refusal(table.open).message
    assert f"HTTP {status}" in message
    assert "look at endpoint_url and region" in message
    assert "max retries" not in message


# Secrets


def test_an_endpoint_of_the_environment_that_holds_credentials_is_refused_and_not_shown(
    aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for endpoint in ("http://me:hunter2@127.0.0.1:1", "http://me:hunter2@no host"):
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", endpoint)
        with pytest.raises(ConfigurationError) as caught:
            DynamoDBEventLog("events", "users", region=servers.REGION)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_no_text_of_the_client_repeats_what_stands_before_an_at_sign(table: Table, clocks: Clocks) -> None:
    def unreachable(_: AWSPreparedRequest) -> None:
        raise EndpointConnectionError(endpoint_url="http://me:hunter2/x@127.0.0.1:1/")

    table.wire.plan("DescribeTable", *[unreachable] * 12)
    message = refusal(table.open).message
    assert "hunter2" not in message
    assert "http://…@127.0.0.1:1/" in message


# What lasts


@contextmanager
def tls_server(folder: Path) -> Iterator[str]:
    """A server with a certificate that nobody has signed."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check_lasts(endpoint_url: str) -> None:
    begun = time.monotonic()
    error = refusal(lambda: DynamoDBEventLog("events", "users", region=servers.REGION, endpoint_url=endpoint_url))
    assert "look at endpoint_url, and at the certificates" in error.message
    assert not error.retryable
    assert time.monotonic() - begun < 5  # it was not tried again


def test_tls_to_a_port_that_speaks_none_is_not_tried_again(moto_server: str) -> None:
    check_lasts(moto_server.replace("http://", "https://"))


def test_certificates_that_fail_are_not_tried_again(
    aws_environment: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "junk.pem").write_text("junk")
    with tls_server(tmp_path) as url:
        check_lasts(url)
        for bundle in ("none.pem", "junk.pem"):
            monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / bundle))
            check_lasts(url)


@pytest.mark.parametrize("cause", [ssl.SSLEOFError(8, "EOF occurred"), ConnectionResetError(104, "reset")], ids=str)
def test_a_connection_that_breaks_within_tls_is_tried_again(table: Table, clocks: Clocks, cause: OSError) -> None:
    def breaks(request: AWSPreparedRequest) -> None:
        raise SSLError(endpoint_url=request.url, error=TransportSSLError(cause))

    table.wire.plan("DescribeTable", breaks)
    table.open()


# Patience


def test_what_nobody_answers_is_given_up_after_half_a_minute(table: Table, clocks: Clocks) -> None:
    def silence(request: AWSPreparedRequest) -> None:
        clocks.advance(10)
        raise ReadTimeoutError(endpoint_url=request.url)

    log = table.open()
    append(log, "a")
    move = folds(log)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("GetItem", lambda: log.head("eu")),
        ("PutItem", lambda: log.append([draft("b")])),
        ("TransactWriteItems", lambda: log.move_head("eu", move)),
    ]
    for operation, call in calls:
        table.wire.operations()
        table.wire.plan(operation, *[silence] * 3)
        begun = clocks.boot
        error = refusal(call)
        assert clocks.boot - begun == 30
        assert table.wire.operations().count(operation) == 3
        assert error.retryable == (not isinstance(error, AppendError))


def test_a_slot_that_another_takes_begins_the_patience_anew(table: Table, clocks: Clocks) -> None:
    def silence(request: AWSPreparedRequest) -> None:
        clocks.advance(10)
        raise ReadTimeoutError(endpoint_url=request.url)

    log = table.open()
    append(log, "a")
    other = table.another()
    taken = after(lambda: append(other, "c"))
    table.wire.plan("PutItem", silence, silence, taken, silence, silence, taken, silence, silence)
    assert append(log, "b") == 4


def test_a_server_that_takes_connections_and_never_answers_ends_in_an_error(
    aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hurried(**given: Any) -> Config:
        return Config(**given | {"read_timeout": given["read_timeout"] / 10})

    monkeypatch.setattr(connection, "PATIENCE", 0.0)
    monkeypatch.setattr(connection, "Config", hurried)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        begun = time.monotonic()
        error = refusal(lambda: DynamoDBEventLog("events", "users", region=servers.REGION, endpoint_url=url))
    assert "Read timeout" in error.message
    assert 0.9 < time.monotonic() - begun < 5  # a tenth of the ten seconds that the log gives the service
