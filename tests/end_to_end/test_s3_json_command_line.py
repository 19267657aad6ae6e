"""The real program with snapshots on S3: from an import to a vacuum, and what it says of wrong input."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import servers
import warm
from program import Program
from s3_servers import S3

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


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stdout
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert servers.ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in done.stderr
    return done.stderr


def write_events(path: Path, count: int) -> list[dict[str, Any]]:
    """Events for one partition; the items that they leave, as `get` prints them."""
    items = [{"pk": "eu", "sk": f"user-{number:03d}", "state": "active"} for number in range(count)]
    events: list[dict[str, Any]] = [{"type": "PUT", "item": item} for item in items]
    events.append({"type": "DELETE", "item": items[3]})
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return [*items[:3], *items[4:]]


def test_snapshots_live_on_s3_from_an_import_to_a_vacuum(run: Run, s3: S3, tmp_path: Path) -> None:
    left = write_events(tmp_path / "events.jsonl", 20)
    layer = ["--table", "users", "--storage", s3.url("cache", publish="true")]
    keys = ["--id-attribute", "sk", "--partition-attribute", "pk"]
    assert good(run("import", "events.jsonl", *layer, *keys, "--batch", "7", fresh=True)).startswith("21 events taken")
    assert s3.listed() == []
    good(run("sync", *layer, fresh=True))
    (segment,) = s3.listed("cache/users/eu/")
    assert json.loads(s3.read("cache/eu.json")) == left
    assert [json.loads(line) for line in good(run("get", "eu", *layer, fresh=True)).splitlines()] == left
    assert good(run("verify", *layer)).endswith("0 wrong\n")

    s3.write(segment.replace("base", "delta"), b"left by a crash")
    assert "0 segments would be discarded" not in good(run("vacuum", *layer))
    assert len(s3.listed()) == 3
    good(run("vacuum", "--discard", *layer))
    assert s3.listed() == ["cache/eu.json", segment]

    s3.write(segment, s3.read(segment)[:-5])
    assert f"s3://{s3.bucket}/{segment}" in refused(run("get", "eu", *layer))
    damaged = run("verify", *layer)
    assert damaged.returncode == 1
    assert "1 wrong" in damaged.stdout + damaged.stderr
    s3.delete(segment)
    assert f"there is no object s3://{s3.bucket}/{segment}" in refused(run("get", "eu", *layer))


def test_a_missing_bucket_wrong_options_and_missing_credentials_are_told_with_the_way_out(
    run: Run, moto_s3: S3, tmp_path: Path
) -> None:
    write_events(tmp_path / "events.jsonl", 5)
    keys = ["--id-attribute", "sk", "--partition-attribute", "pk"]
    good(run("import", "events.jsonl", *keys, "--storage", moto_s3.url()))
    elsewhere = moto_s3.url().replace(moto_s3.bucket, "no-such-bucket")
    assert "make it with 'aws s3 mb s3://no-such-bucket'" in refused(run("sync", "--storage", elsewhere))
    assert "knows no option 'regoin'" in refused(run("sync", "--storage", "s3-json://bucket?regoin=x"))
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    bare |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "HOME": os.devnull}
    bare["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull
    said = refused(run("sync", "--storage", moto_s3.url(), environment=bare))
    assert "boto3 finds credentials in its own chain" in said
    good(run("sync", "--storage", moto_s3.url()))
    assert len(moto_s3.listed()) == 1


def test_boto3_is_asked_for_only_where_it_is_needed_and_its_absence_says_what_to_install(
    run: Run, tmp_path: Path, aws_environment: None
) -> None:
    (tmp_path / "none" / "boto3").mkdir(parents=True)
    hidden = "raise ModuleNotFoundError(\"No module named 'boto3'\", name='boto3')\n"
    (tmp_path / "none" / "boto3" / "__init__.py").write_text(hidden)
    without = {**os.environ, "PYTHONPATH": str(tmp_path / "none")}
    write_events(tmp_path / "events.jsonl", 5)
    keys = ["--id-attribute", "sk", "--partition-attribute", "pk"]
    assert "pip install 'dynalayer[s3]'" in refused(
        run("import", "events.jsonl", *keys, "--storage", "s3-json://bucket", environment=without)
    )
    good(run("import", "events.jsonl", *keys, environment=without))
