"""The page on capture says what the code does: its examples run against DynamoDB Local, its tables are compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import servers
from captured import KEYS, source_table
from dynalayer import create_table
from dynalayer.capturing.expressions import parse_update

PAGE = (Path(__file__).parents[2] / "docs" / "capture.md").read_text()


@pytest.fixture
def tables(dynamodb_local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The tables that the page names, where boto3's own chain leads to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamodb_local)
    with closing(servers.dynamodb_client(dynamodb_local)) as client, source_table(client, "users", KEYS):
        create_table("dynamodb://events")
        yield
        client.delete_table(TableName="events")


@pytest.mark.usefixtures("tables")
def test_the_examples_run_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(example.replace("batch_writer()", "batch_writer(actions=10)"), "capture.md", "exec"), {})  # noqa: S102 -- our own page


def test_what_the_page_says_is_computed_is_taken() -> None:
    section = PAGE.partition("\n## Updates\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(SET|REMOVE|ADD|DELETE) ([^`]*)` \| (.*) \|$", section, re.MULTILINE)
    assert [clause for clause, _, _ in rows] == ["SET", "REMOVE", "ADD", "DELETE"]
    values = {":value": 1}
    for clause, form, told in rows:
        assert parse_update(f"{clause} {form.replace('= value', '= :value')}", {}, values).actions
        for each in re.findall(r"`([^`]*)`", told if clause == "SET" else ""):
            assert parse_update(f"SET x = {each.replace('value', ':value')}", {}, values).actions
