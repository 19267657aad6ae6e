"""The real program follows a real table's stream: told to stop, killed, started again, and given what cannot work."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import servers
import warm
from dynalayer import Layer
from program import InProcess, Program

PATIENCE = 60.0  # seconds for what takes few


@dataclass
class Source:
    """A table, with a stream unless told otherwise, and the log and folder of its layer."""

    url: str
    name: str
    folder: Path
    client: Any
    items: dict[tuple[str, str], float] = field(default_factory=dict)
    changes: int = 0

    def create(self, view: str | None = "NEW_AND_OLD_IMAGES") -> None:
        stream = {"StreamEnabled": False} if view is None else {"StreamEnabled": True, "StreamViewType": view}
        self.client.create_table(
            TableName=self.name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            StreamSpecification=stream,
        )

    def change(self, rng: random.Random, count: int) -> None:
        for _ in range(count):
            pk, sk, n = f"p{rng.randrange(3)}", f"i{rng.randrange(9)}", rng.randrange(10**9)
            key = {"pk": {"S": pk}, "sk": {"S": sk}}
            if (pk, sk) in self.items and rng.random() < 0.3:
                self.client.delete_item(TableName=self.name, Key=key)
                del self.items[pk, sk]
            else:
                self.client.put_item(TableName=self.name, Item={**key, "n": {"N": str(n)}})
                self.items[pk, sk] = n
            self.changes += 1

    def layer(self) -> Layer:
        return Layer(
            table=self.name,
            get_item_unique_identifier="sk",
            get_item_partition="pk",
            events=f"sqlite:///{self.folder}/events.db",
            storage=f"local://{self.folder}/snapshots",
        )

    def taken(self) -> bool:
        """Whether the layer is what the table is."""
        with self.layer() as layer:
            found = {(each["pk"], each["sk"]): each["n"] for name in layer.partitions() for each in layer.get(name)}
        return found == self.items

    def events(self) -> int:
        with self.layer() as layer:
            return sum(len(layer.history(name)) for name in layer.partitions())

    @property
    def options(self) -> list[str]:
        """What names the layer and the table's place."""
        place = f"dynamodb://{self.name}?region={servers.REGION}&endpoint_url={self.url}"
        return ["--source", place, "--poll", "0.05"]


@pytest.fixture
def source(dynamodb_local: str, tmp_path: Path) -> Iterator[Source]:
    client = servers.dynamodb_client(dynamodb_local)
    source = Source(dynamodb_local, f"users-{os.urandom(6).hex()}", tmp_path, client)
    (tmp_path / "dynalayer.toml").write_text(
        f'table = "{source.name}"\nevents = "sqlite:///events.db"\nstorage = "local:snapshots"\n'
        'get_item_unique_identifier = "sk"\nget_item_partition = "pk"\n'
    )
    yield source
    if source.name in client.list_tables()["TableNames"]:
        client.delete_table(TableName=source.name)
    client.close()


class Follower:
    """The program, running, and what it has said."""

    def __init__(self, source: Source, stack: ExitStack, *arguments: str) -> None:
        self.said = source.folder / f"said-{os.urandom(4).hex()}"
        with ExitStack() as files:
            nothing = files.enter_context(Path(os.devnull).open("r+b")).fileno()
            into = files.enter_context(self.said.open("ab")).fileno()
            self.process = warm.server().start(
                Program(source.folder).path,
                ["follow-stream", *source.options, *arguments],
                folder=source.folder,
                environment=os.environ,
                streams=[nothing, into, into],
            )
        stack.callback(self.process.kill)
        until(lambda: "following" in self.said.read_text() or self.process.poll() is not None)

    def stop(self, number: int) -> str:
        os.kill(self.process.pid, number)
        assert self.process.wait(PATIENCE) == 0, self.said.read_text()
        return self.said.read_text()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_follows_until_it_is_told_to_stop_and_goes_on_there(source: Source) -> None:
    rng = random.Random(1)
    source.create()
    with ExitStack() as stack:
        follower = Follower(source, stack)
        source.change(rng, 20)
        until(source.taken)
        said = follower.stop(signal.SIGTERM)
        assert re.match(rf"following arn:\S+table/{source.name}/stream/\S+ from latest: 1 shard\n", said)
        assert "20 records read: 20 events taken, 0 changes known already, 0 records set aside" in said
        source.change(rng, 10)
        follower = Follower(source, stack)
        until(source.taken)
        assert "from where it was followed to" in follower.stop(signal.SIGINT)
    assert source.events() == source.changes


def test_followers_that_are_killed_again_and_again_take_each_change_once(source: Source) -> None:
    rng = random.Random(2)
    source.create()
    with ExitStack() as stack:
        for _ in range(4):
            follower = Follower(source, stack)
            source.change(rng, rng.randrange(10, 30))
            time.sleep(rng.random() / 10)
            follower.process.kill()
            follower.process.wait(PATIENCE)
    said = Program(source.folder).good("follow-stream", *source.options, "--once")
    assert "from where it was followed to" in said
    assert source.taken()
    assert source.events() == source.changes


def test_two_at_once_take_each_change_once(source: Source) -> None:
    rng = random.Random(3)
    source.create()
    with ExitStack() as stack:
        followers = [Follower(source, stack) for _ in range(2)]
        source.change(rng, 40)
        until(source.taken)
        for each in followers:
            each.stop(signal.SIGTERM)
    assert source.events() == source.changes


def refused(source: Source, *arguments: str, code: int = 1) -> str:
    return InProcess(source.folder).bad("follow-stream", *arguments, code=code)


def test_a_table_that_is_not_there_or_has_no_stream_is_told(source: Source) -> None:
    assert f"table {source.name!r} has no stream" in refused(source, *source.options)
    source.create(None)
    assert "StreamViewType NEW_AND_OLD_IMAGES" in refused(source, *source.options)


def test_a_stream_without_the_images_that_are_needed_is_told(source: Source) -> None:
    source.create("KEYS_ONLY")
    said = refused(source, *source.options)
    assert f"the stream of table {source.name!r} has no NewImage" in said
    assert "KEYS_ONLY" in said


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--source", "dynamodb://orders?region=us-east-1"], 1, "the stream of the layer's table is followed"),
        (["--source", "sqlite:///users"], 1, "the stream of the layer's table is followed"),
        (["--source", "dynamodb://{name}?regoin=us-east-1"], 1, "knows no option 'regoin'"),
        (["--stream-arn", "users"], 1, "stream_arn is 'users'"),
        (["--events", "memory:"], 2, "gone when the command ends"),
        (["--from", "now"], 2, "'now' is not one of"),
        (["--poll", "-1"], 2, "-1"),
        (["--dead-letters", "nowhere/dead.jsonl"], 1, "nowhere/dead.jsonl"),
    ],
)
def test_wrong_options_are_told(source: Source, arguments: Sequence[str], code: int, told: str) -> None:
    assert told in refused(source, *(each.format(name=source.name) for each in arguments), code=code)


def test_without_boto3_it_says_what_to_install(source: Source) -> None:
    program = Program(source.folder)
    done = program.run("follow-stream", *source.options, environment=program.without("boto3"))
    assert done.returncode == 1
    assert b"following a stream needs boto3; pip install 'dynalayer[dynamodb]'" in done.stderr


def test_what_is_refused_ends_it_and_is_set_aside_on_request(source: Source) -> None:
    source.create()
    config = source.folder / "dynalayer.toml"
    config.write_text(config.read_text().replace('"sk"', '{ function = "ids_of_users:mail" }'))
    (source.folder / "ids_of_users.py").write_text("def mail(item):\n    return item['mail']\n")
    program = InProcess(source.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(source.folder))
        program.good("follow-stream", *source.options, "--once")
        for sk in ("1", "2", "3"):
            more = {} if sk == "2" else {"mail": {"S": f"{sk}@example.com"}}
            source.client.put_item(TableName=source.name, Item={"pk": {"S": "p"}, "sk": {"S": sk}, **more})
        said = program.bad("follow-stream", *source.options, "--once")
        assert "item {'pk': 'p', 'sk': '2'}: the function for an item's identifier raised KeyError" in said
        said = program.good("follow-stream", *source.options, "--once", "--dead-letters", "dead.jsonl")
    assert "1 event taken, 0 changes known already, 1 record set aside" in said
    (line,) = (source.folder / "dead.jsonl").read_text().splitlines()
    assert json.loads(line)["item"] == {"pk": "p", "sk": "2"}
