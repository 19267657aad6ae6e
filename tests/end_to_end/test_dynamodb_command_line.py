"""The real program on a DynamoDB log: from making its table to what it costs, and what it says of wrong input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import servers
import warm
from dynalayer.eventlog.dynamodb import connection
from program import InProcess, Program

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The program in a folder of its own, on request with an interpreter of its own too."""
    program = Program(tmp_path)

    def command(
        *arguments: str, environment: Mapping[str, str] = os.environ, fresh: bool = False
    ) -> subprocess.CompletedProcess[str]:
        done = warm.run(program.path, arguments, folder=tmp_path, environment=environment, fresh=fresh)
        return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())

    return command


@pytest.fixture
def name(moto_server: str) -> Iterator[str]:
    """A name that no table has; what is made under it is deleted."""
    name = f"test-{os.urandom(8).hex()}"
    yield name
    with closing(servers.dynamodb_client(moto_server)) as client:
        if name in client.list_tables()["TableNames"]:
            client.delete_table(TableName=name)


@pytest.fixture
def url(moto_server: str, name: str) -> str:
    return f"dynamodb://{name}?region={servers.REGION}&endpoint_url={moto_server}"


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_layer_lives_in_a_table_from_its_making_to_its_vacuum(run: Run, url: str, name: str, tmp_path: Path) -> None:
    assert good(run("create-table", url, fresh=True)).startswith(
        f"made table {name}: keys pk and sk, index cursor-index"
    )
    assert "nothing was to be done" in good(run("create-table", url))
    events: list[dict[str, Any]] = [
        {"type": "PUT", "item": {"pk": "eu", "sk": f"user-{number}", "state": "active"}} for number in range(20)
    ]
    events += [{"type": "DELETE", "item": {"pk": "eu", "sk": "user-3"}}]
    (tmp_path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    layer = ["--table", "users", "--events", url]
    keys = ["--id-attribute", "sk", "--partition-attribute", "pk"]
    assert good(run("import", "events.jsonl", *layer, *keys, "--batch", "7", fresh=True)).startswith("21 events taken")
    left = [event["item"] for event in events if event["item"]["sk"] != "user-3"]
    left.sort(key=lambda item: item["sk"])
    for _ in ("pending", "folded"):
        assert [json.loads(line) for line in good(run("get", "eu", *layer, fresh=True)).splitlines()] == left
        assert len(good(run("history", "eu", *layer)).splitlines()) == 21
        status = good(run("status", *layer))
        assert "21 events in 1 partition," in status
        assert "this command: " in status.splitlines()[-1]
        assert " read units, 0 write units" in status.splitlines()[-1]
        assert good(run("verify", *layer)).endswith("0 wrong\n")
        good(run("sync", *layer, fresh=True))
    assert json.loads(good(run("status", "--json", *layer)))["unsynced_total"] == 0
    assert good(run("get", "eu", "--at-version", "1", *layer)).count("\n") == 7
    assert "0 segments would be discarded" in good(run("vacuum", *layer))


def test_explain_tells_costs_by_the_prices_given(run: Run, url: str, tmp_path: Path) -> None:
    good(run("create-table", url))
    (tmp_path / "event.jsonl").write_text('{"type": "PUT", "id": "a", "item": {"name": "a"}}\n')
    layer = ["--table", "users", "--events", url]
    good(run("import", "event.jsonl", *layer))
    text = good(run("explain", *layer))
    for title in ("first read of a process", "further append", "sync", "plain Query of the same items"):
        assert f"\n{title}" in text
    assert "USD a million times" in text
    assert "not paid by request" not in text
    unknown = good(run("explain", "nosuch", *layer))
    assert "no event of it is known yet" in unknown
    assert "PutItem" not in unknown
    told: dict[str, Any] = json.loads(good(run("explain", "--json", *layer)))
    assert (told["items"], told["pending"], told["segments"]) == (1, 1, 0)
    figures = "read_million = 1\nwrite_million = 1000000.0\nstorage_read = 0\nstorage_write = 0\n"
    (tmp_path / "prices.toml").write_text(f'currency = "EUR"\n{figures}')
    assert "2,000,000.00 EUR a million times" in good(run("explain", *layer, "--prices", "prices.toml"))
    (tmp_path / "prices.toml").write_text('currency = "EUR"\n')
    assert "the price table names a currency" in refused(run("explain", *layer, "--prices", "prices.toml"))
    (tmp_path / "prices.toml").write_text("write_milion = 1\n")
    assert "write_milion" in refused(run("explain", *layer, "--prices", "prices.toml"))
    assert "none.toml" in refused(run("explain", *layer, "--prices", "none.toml"))


def test_a_table_that_differs_is_refused_with_what_is_wrong_and_the_way_out(
    run: Run, url: str, name: str, moto_server: str
) -> None:
    with closing(servers.dynamodb_client(moto_server)) as client:
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
    for done in (run("create-table", url), run("status", "--events", url)):
        said = refused(done)
        assert "its key is id (HASH), not pk (HASH) and sk (RANGE)" in said
        assert "no global secondary index 'cursor-index'" in said
        assert "create-table" in said


def test_a_table_or_a_layer_that_is_not_there_is_told_with_the_way_out(run: Run, url: str, name: str) -> None:
    said = refused(run("status", "--events", url))
    (pasted,) = re.findall("`dynalayer create-table '(.*)'`", said)
    assert pasted == url
    good(run("create-table", pasted))
    assert "has no layer of table 'nobody'" in refused(run("status", "--events", url, "--table", "nobody"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("dynamodb:", "dynamodb://TABLE?region=REGION"),
        ("dynamodb://ab?region=us-east-1", "3 to 255"),
        ("dynamodb://events?regoin=us-east-1", "knows no option 'regoin'; known options: endpoint_url, pending_shards"),
        ("dynamodb://events?region=us-east-1&pending_shards=0", "pending_shards=0"),
        ("dynamodb://events?endpoint_url=127.0.0.1", "endpoint_url"),
        ("dynamodb://events?endpoint_url=http://me:secret@127.0.0.1:1", "leave them out"),
        ("dynamodb://me:secret@events", "leave them out"),
        ("dynamodb://events#x?region=us-east-1", "# and what follows it mean nothing"),
        ("dynamodb://arn:aws:dynamodb:us-east-1:123456789012:table/events", "is given an ARN"),
    ],
)
def test_a_wrong_url_is_refused_before_anything_is_asked_and_no_secret_is_repeated(
    run: Run, aws_environment: None, wrong: str, said: str
) -> None:
    for command in (("status", "--events", wrong), ("create-table", wrong)):
        error = refused(run(*command))
        assert said in error
        assert "secret" not in error


def test_without_a_region_or_credentials_the_error_says_where_boto3_looks(
    run: Run, url: str, aws_environment: None
) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    bare |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "HOME": os.devnull}
    bare["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    assert "add ?region=" in refused(run("status", "--events", "dynamodb://events", environment=bare))
    assert "boto3 finds them in its own chain" in refused(run("status", "--events", url, environment=bare))


def test_an_endpoint_that_nobody_serves_ends_in_an_error_that_can_be_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws_environment: None
) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 0.5)  # in this process, so that it can be made impatient
    url = f"dynamodb://events?endpoint_url=http://127.0.0.1:{servers.free_port()}"
    said = InProcess(tmp_path).bad("status", "--events", url)
    assert "Could not connect to the endpoint" in said
    assert "trying again can help" in said


def test_boto3_is_asked_for_only_where_it_is_needed_and_its_absence_says_what_to_install(
    run: Run, tmp_path: Path, aws_environment: None
) -> None:
    looked = "import sys, dynalayer; sys.exit('boto3' in sys.modules or 'botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", looked], timeout=60).returncode == 0
    (tmp_path / "none" / "boto3").mkdir(parents=True)
    hidden = "raise ModuleNotFoundError(\"No module named 'boto3'\", name='boto3')\n"
    (tmp_path / "none" / "boto3" / "__init__.py").write_text(hidden)
    without = {**os.environ, "PYTHONPATH": str(tmp_path / "none")}
    said = refused(run("status", "--events", "dynamodb://events?region=us-east-1", environment=without))
    assert "pip install 'dynalayer[dynamodb]'" in said
    (tmp_path / "event.jsonl").write_text('{"type": "PUT", "id": "a", "item": {"name": "a"}}\n')
    good(run("import", "event.jsonl", environment=without))
