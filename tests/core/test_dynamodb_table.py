"""The DynamoDB log's table: making it, refusing what is none, and the URL that names it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import servers
from dynalayer import (
    ConfigurationError,
    DynamoDBEventLog,
    EventLogError,
    Layer,
    LayoutError,
    TableMade,
    create_table,
)
from dynalayer.eventlog.dynamodb import connection, rows
from dynalayer.opening import open_event_log
from dynalayer_local import LocalAdapter
from fakes import put

from .dynamodb_fakes import (
    Clocks,
    Fate,
    Table,
    answers,
    append,
    fresh,
    lost_answer,
    lost_request,
    refuses,
    unreachable,
)

INDEX = "cursor-index"


class Place:
    """A service, and a table's name in it that nobody has."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = f"test-{secrets.token_hex(8)}"
        self.client = servers.dynamodb_client(url)

    @property
    def events(self) -> str:
        return f"dynamodb://{self.name}?region={servers.REGION}&endpoint_url={quote(self.url)}"

    def describe(self) -> dict[str, Any]:
        return dict(self.client.describe_table(TableName=self.name)["Table"])

    def ttl(self) -> dict[str, Any]:
        return dict(self.client.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"])

    def layer(self, folder: Path, **options: Any) -> Layer:
        given = {"table": "users", "events": self.events, "storage": LocalAdapter(folder), **options}
        return Layer(get_item_unique_identifier="id", **given)

    def make(self, *, ttl: str | None = "ttl", **changed: Any) -> None:
        """Make a table as the log's is, but for what is changed: None leaves it out."""
        keys = {"pk": "HASH", "sk": "RANGE"}
        index = {
            "IndexName": INDEX,
            "KeySchema": schema(changed.pop("index_keys", {"cursor": "HASH", "pk": "RANGE"})),
            "Projection": {"ProjectionType": changed.pop("projection", "KEYS_ONLY")},
        }
        types: dict[str, str] = changed.pop("types", {"pk": "S", "sk": "S", "cursor": "S"})
        given = {
            "TableName": self.name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": schema(changed.pop("keys", keys)),
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, kind in types.items()],
            "GlobalSecondaryIndexes": [index | {"IndexName": changed.pop("index", INDEX)}],
            **changed,
        }
        made: Any = {name: value for name, value in given.items() if value is not None}
        self.client.create_table(**made)
        if ttl is not None:
            self.client.update_time_to_live(
                TableName=self.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": ttl}
            )


def schema(keys: dict[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()]


@contextmanager
def place_at(url: str) -> Iterator[Place]:
    place = Place(url)
    with closing(place.client):
        try:
            yield place
        finally:
            if place.name in place.client.list_tables(ExclusiveStartTableName=place.name[:-1])["TableNames"]:
                place.client.delete_table(TableName=place.name)


@pytest.fixture
def place(moto_server: str) -> Iterator[Place]:
    with place_at(moto_server) as place:
        yield place


@pytest.fixture(params=["moto_server", "dynamodb_local"])
def each(request: pytest.FixtureRequest) -> Iterator[Place]:
    with place_at(request.getfixturevalue(request.param)) as place:
        yield place


@pytest.fixture
def table(moto_server: str) -> Iterator[Table]:
    with fresh(moto_server) as table:
        yield table


# Making it


def test_a_table_is_made_as_the_log_needs_it(each: Place, tmp_path: Path) -> None:
    assert create_table(each.events) == TableMade(each.name, created=True, ttl_enabled=True)
    made = each.describe()
    assert made["TableStatus"] == "ACTIVE"
    assert made["KeySchema"] == schema({"pk": "HASH", "sk": "RANGE"})
    assert {each["AttributeName"]: each["AttributeType"] for each in made["AttributeDefinitions"]} == {
        "pk": "S",
        "sk": "S",
        "cursor": "S",
    }
    (index,) = made["GlobalSecondaryIndexes"]
    assert index["IndexName"] == INDEX
    assert index["KeySchema"] == schema({"cursor": "HASH", "pk": "RANGE"})
    assert index["Projection"] == {"ProjectionType": "KEYS_ONLY"}
    assert made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert (each.ttl()["TimeToLiveStatus"], each.ttl()["AttributeName"]) == ("ENABLED", "ttl")
    with each.layer(tmp_path) as layer:
        layer.set([put("a")])
        assert layer.get() == [{"id": "a"}]


def test_a_table_that_is_there_is_left_as_it_is(each: Place, tmp_path: Path) -> None:
    create_table(each.events)
    with each.layer(tmp_path) as layer:
        layer.set([put("a")])
        before = each.describe()["CreationDateTime"]
        assert create_table(each.events) == TableMade(each.name, created=False, ttl_enabled=False)
        assert each.describe()["CreationDateTime"] == before
        assert layer.get() == [{"id": "a"}]


def test_ttl_that_is_off_is_switched_on(each: Place) -> None:
    each.make(ttl=None)
    assert create_table(each.events) == TableMade(each.name, created=False, ttl_enabled=True)
    assert (each.ttl()["TimeToLiveStatus"], each.ttl()["AttributeName"]) == ("ENABLED", "ttl")
    assert create_table(each.events) == TableMade(each.name, created=False, ttl_enabled=False)


def test_a_table_is_made_by_a_client_of_ones_own_which_stays_open(place: Place) -> None:
    assert create_table(f"dynamodb://{place.name}", client=place.client).created
    assert place.describe()["TableStatus"] == "ACTIVE"


def test_a_table_is_waited_for_until_it_is_active(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []

    def creating(parsed: dict[str, Any], **_: Any) -> None:
        told.append(parsed["Table"]["TableStatus"])
        if len(told) == 1:
            parsed["Table"]["TableStatus"] = "CREATING"

    monkeypatch.setattr(connection, "time", Clocks())
    place.client.meta.events.register("after-call.dynamodb.DescribeTable", creating)
    assert create_table(f"dynamodb://{place.name}", client=place.client).created
    assert len(told) > 2


@pytest.mark.parametrize(
    "state", [answers({"Table": {"TableStatus": "CREATING"}}), refuses("ResourceNotFoundException")]
)
def test_a_table_that_never_becomes_active_is_an_error(
    place: Place, monkeypatch: pytest.MonkeyPatch, state: Fate
) -> None:
    clocks, looks = Clocks(), [0]
    monkeypatch.setattr(connection, "time", clocks)

    def look(request: Any, **_: Any) -> Any:
        looks[0] += 1
        clocks.advance(1)
        return state(request)

    place.client.meta.events.register("before-send.dynamodb.DescribeTable", look)
    with pytest.raises(EventLogError, match="not active after five minutes; run create-table again") as caught:
        create_table(f"dynamodb://{place.name}", client=place.client)
    assert caught.value.retryable
    assert 300 <= looks[0] <= 302


@pytest.mark.parametrize("fate", [lost_answer, lost_request, unreachable, refuses("ThrottlingException")])
@pytest.mark.parametrize("operation", ["CreateTable", "DescribeTable", "DescribeTimeToLive", "UpdateTimeToLive"])
def test_a_table_is_made_whichever_request_or_answer_is_lost(
    each: Place, monkeypatch: pytest.MonkeyPatch, operation: str, fate: Fate
) -> None:
    monkeypatch.setattr(connection, "time", Clocks())
    fates = [fate]

    def send(request: Any, **_: Any) -> Any:
        return fates.pop()(request) if fates else None

    each.client.meta.events.register(f"before-send.dynamodb.{operation}", send)
    made = create_table(f"dynamodb://{each.name}", client=each.client)
    assert made.created == (fate is not lost_answer or operation != "CreateTable")
    assert made.ttl_enabled
    assert (each.ttl()["TimeToLiveStatus"], each.ttl()["AttributeName"]) == ("ENABLED", "ttl")


def test_ttl_that_cannot_be_switched_on_is_an_error(place: Place) -> None:
    def send(request: Any, **_: Any) -> Any:
        return refuses("ValidationException", "TimeToLive is being changed")(request)

    place.client.meta.events.register("before-send.dynamodb.UpdateTimeToLive", send)
    with pytest.raises(EventLogError, match="TimeToLive is being changed"):
        create_table(f"dynamodb://{place.name}", client=place.client)


def test_two_that_make_a_table_at_once_both_succeed(place: Place) -> None:
    def first(**_: Any) -> None:  # between the look and the making there is nothing: the service itself says no
        if not made:
            made.append(create_table(place.events))

    made: list[TableMade] = []
    place.client.meta.events.register("before-call.dynamodb.CreateTable", first)
    second = create_table(f"dynamodb://{place.name}", client=place.client)
    assert made == [TableMade(place.name, created=True, ttl_enabled=True)]
    assert second == TableMade(place.name, created=False, ttl_enabled=False)


def test_create_table_needs_a_url_of_a_table(place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"create_table makes dynamodb://TABLE, not sqlite:"):
        create_table("sqlite:///events.db")
    with pytest.raises(ConfigurationError, match="knows no option 'regoin'"):
        create_table(f"{place.events}&regoin=x")


# What is no table of a log

STRINGS = {"pk": "S", "sk": "S", "cursor": "S"}

WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "another hash key": (
        {"keys": {"id": "HASH", "sk": "RANGE"}, "types": {"id": "S", **STRINGS}},
        "its key is id (HASH) and sk (RANGE), not pk (HASH) and sk (RANGE)",
    ),
    "no range key": (
        {"keys": {"pk": "HASH"}, "types": {"pk": "S", "cursor": "S"}},
        "its key is pk (HASH), not pk (HASH) and sk (RANGE)",
    ),
    "keys the wrong way round": (
        {"keys": {"sk": "HASH", "pk": "RANGE"}},
        "its key is sk (HASH) and pk (RANGE), not pk (HASH) and sk (RANGE)",
    ),
    "a range key of numbers": ({"types": {**STRINGS, "sk": "N"}}, "'sk' of its key is of type N, not S"),
    "a hash key of binaries": ({"types": {**STRINGS, "pk": "B"}}, "'pk' of its key is of type B, not S"),
    "no index": (
        {"GlobalSecondaryIndexes": None, "types": {"pk": "S", "sk": "S"}},
        f"it has no global secondary index '{INDEX}'",
    ),
    "an index of another name": ({"index": "by-cursor"}, f"it has no global secondary index '{INDEX}'"),
    "other index keys": (
        {"index_keys": {"cursor": "HASH", "sk": "RANGE"}},
        f"the key of index '{INDEX}' is cursor (HASH) and sk (RANGE), not cursor (HASH) and pk (RANGE)",
    ),
    "an index key of numbers": (
        {"types": {**STRINGS, "cursor": "N"}},
        f"'cursor' of the key of index '{INDEX}' is of type N, not S",
    ),
    "an index of all attributes": ({"projection": "ALL"}, f"index '{INDEX}' projects ALL, not KEYS_ONLY"),
}
WAY_OUT = "Name another one: 'dynalayer create-table URL' makes it as it should be"


def told(place: Place, text: str) -> Callable[[LayoutError], None]:
    def check(error: LayoutError) -> None:
        assert text in error.message
        assert error.message.startswith(f"dynamodb://{place.name} is no table of an event log: ")
        assert not error.retryable

    return check


@pytest.mark.parametrize("what", WRONG)
def test_a_table_that_is_something_else_is_refused_with_what_is_wrong(place: Place, tmp_path: Path, what: str) -> None:
    changed, text = WRONG[what]
    place.make(**changed)
    before = place.describe(), place.ttl()
    check = told(place, text)
    with pytest.raises(LayoutError) as by_making:
        create_table(place.events)
    check(by_making.value)
    with pytest.raises(LayoutError) as by_opening:
        place.layer(tmp_path)
    check(by_opening.value)
    assert by_making.value.message == by_opening.value.message
    assert by_opening.value.message.endswith(WAY_OUT)
    assert (place.describe(), place.ttl()) == before
    assert place.client.scan(TableName=place.name)["Count"] == 0


def test_a_layer_refuses_a_table_whose_ttl_is_off_and_names_the_way_out(place: Place, tmp_path: Path) -> None:
    place.make(ttl=None)
    with pytest.raises(LayoutError, match=r"TTL is off.*; 'dynalayer create-table' switches it on$") as caught:
        place.layer(tmp_path)
    assert "another" not in caught.value.message
    assert place.ttl()["TimeToLiveStatus"] == "DISABLED"
    create_table(place.events)
    place.layer(tmp_path).close()


def test_a_table_whose_ttl_is_on_another_attribute_is_refused_and_left_as_it_is(place: Place, tmp_path: Path) -> None:
    place.make(ttl="expires")
    for call in (lambda: create_table(place.events), lambda: place.layer(tmp_path)):
        with pytest.raises(LayoutError, match="TTL is on attribute 'expires', not on 'ttl'; switch that off") as caught:
            call()
        assert "another one" not in caught.value.message
    assert place.ttl()["AttributeName"] == "expires"


GLOBAL: dict[str, tuple[dict[str, Any], str]] = {
    "eventually consistent": ({"Replicas": [{"RegionName": "eu-west-1"}]}, "acknowledged events would vanish"),
    "eventually consistent, and it says so": (
        {"Replicas": [{"RegionName": "eu-west-1"}], "MultiRegionConsistency": "EVENTUAL"},
        "acknowledged events would vanish",
    ),
    "strongly consistent": (
        {"Replicas": [{"RegionName": "eu-west-1"}], "MultiRegionConsistency": "STRONG"},
        "neither TTL nor transactions",
    ),
    "of the first version": ({"GlobalTableVersion": "2017.11.29"}, "acknowledged events would vanish"),
}


@pytest.mark.parametrize("what", GLOBAL)
def test_a_global_table_is_refused_with_the_way_out(place: Place, what: str) -> None:
    told, why = GLOBAL[what]
    create_table(place.events)
    place.client.meta.events.register(
        "after-call.dynamodb.DescribeTable", lambda parsed, **_: parsed["Table"].update(told)
    )
    for call in (
        lambda: create_table(f"dynamodb://{place.name}", client=place.client),
        lambda: DynamoDBEventLog(place.name, "users", client=place.client),
    ):
        with pytest.raises(LayoutError, match=f"it is a global table, and .*{why}; remove its replicas"):
            call()


def test_a_table_that_was_a_global_one_is_taken(place: Place) -> None:
    create_table(place.events)
    told = {"Replicas": [], "GlobalTableVersion": "2019.11.21"}
    place.client.meta.events.register(
        "after-call.dynamodb.DescribeTable", lambda parsed, **_: parsed["Table"].update(told)
    )
    DynamoDBEventLog(place.name, "users", client=place.client).close()


def test_all_that_is_wrong_is_told_at_once(place: Place, tmp_path: Path) -> None:
    place.make(keys={"pk": "HASH", "id": "RANGE"}, types={"pk": "S", "id": "S", "cursor": "N"}, projection="ALL")
    with pytest.raises(LayoutError) as caught:
        place.layer(tmp_path)
    for text in ("its key is pk (HASH) and id (RANGE)", "'cursor' of the key of index", "projects ALL"):
        assert text in caught.value.message


@pytest.mark.parametrize("status", ["CREATING", "DELETING"])
def test_a_table_that_is_not_active_is_refused(place: Place, status: str) -> None:
    create_table(place.events)

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Table"]["TableStatus"] = status

    place.client.meta.events.register("after-call.dynamodb.DescribeTable", tell)
    with pytest.raises(LayoutError, match=f"it is {status}, not ACTIVE; wait, and try again"):
        DynamoDBEventLog(place.name, "users", client=place.client)


def test_a_table_that_is_changing_is_taken(place: Place) -> None:
    create_table(place.events)

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Table"]["TableStatus"] = parsed["Table"]["GlobalSecondaryIndexes"][0]["IndexStatus"] = "UPDATING"

    place.client.meta.events.register("after-call.dynamodb.DescribeTable", tell)
    DynamoDBEventLog(place.name, "users", client=place.client).close()


def test_an_index_that_is_still_being_made_is_refused(place: Place) -> None:
    create_table(place.events)

    def tell(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Table"]["GlobalSecondaryIndexes"][0]["IndexStatus"] = "CREATING"

    place.client.meta.events.register("after-call.dynamodb.DescribeTable", tell)
    with pytest.raises(LayoutError, match=f"index '{INDEX}' is CREATING, not ACTIVE"):
        DynamoDBEventLog(place.name, "users", client=place.client)


def test_a_table_that_is_not_there_is_an_error_that_says_how_to_make_it(each: Place, tmp_path: Path) -> None:
    with pytest.raises(EventLogError) as caught:
        each.layer(tmp_path)
    where = f"dynamodb://{each.name}?region={servers.REGION}&endpoint_url={each.url}"
    assert "if it is in another region name that" in caught.value.message
    assert f"`dynalayer create-table '{where}'` makes it" in caught.value.message
    assert not caught.value.retryable
    assert each.name not in each.client.list_tables()["TableNames"]


@pytest.mark.parametrize("operation", ["DescribeTable", "DescribeTimeToLive", "GetItem", "UpdateItem"])
def test_a_right_that_is_missing_at_the_opening_is_named(table: Table, operation: str) -> None:
    table.wire.plan(operation, refuses("AccessDeniedException", "User is not authorized"))
    with pytest.raises(EventLogError, match=f"needs dynamodb:{operation} on the table"):
        table.open()


def test_a_service_that_does_not_answer_is_an_error_that_says_so(
    aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks()
    monkeypatch.setattr(connection, "time", clocks)
    nobody = f"http://127.0.0.1:{servers.free_port()}"
    with pytest.raises(EventLogError, match="dynamodb://events did not answer to describe_table") as caught:
        DynamoDBEventLog("events", "users", region=servers.REGION, endpoint_url=nobody)
    assert caught.value.retryable
    assert len(clocks.waits) == 11


# The layer in it


@pytest.mark.parametrize("told", ["2", "0", "99"])
def test_a_layer_of_another_layout_is_refused(table: Table, told: str) -> None:
    log = table.open()
    append(log, "a")
    meta = table.rows(None)[rows.META_KEY]
    table.put({**meta, "format": {"N": told}})
    before = table.rows(None)
    with pytest.raises(LayoutError, match=rf"layer of table 'users'.*layout {told}; this release knows 1"):
        table.open(pending_shards=7)
    assert table.rows(None) == before
    table.open("user")  # another layer's business


def test_without_create_a_layer_that_is_not_there_is_an_error(table: Table) -> None:
    with pytest.raises(EventLogError, match="has no layer of table 'users'"):
        table.open(create=False)
    assert table.rows(None) == {}
    origin = table.open().origin
    assert table.open(create=False).origin == origin


def test_logs_that_are_opened_at_once_have_one_origin(table: Table) -> None:
    origins: list[str] = []

    def other(**_: Any) -> None:
        if not origins:
            origins.append(table.another().origin)

    table.client.meta.events.register("before-call.dynamodb.UpdateItem", other)
    assert [table.open().origin] == origins
    assert len(origins) == 1


def test_layers_of_other_tables_have_other_origins(table: Table) -> None:
    assert len({table.open(name).origin for name in ("users", "user", "_users_")}) == 3


def test_a_log_that_is_refused_leaves_a_client_of_ones_own_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.make(ttl=None)
    closed: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(place.client, "close", lambda: closed.append("closed"))
        with pytest.raises(LayoutError):
            DynamoDBEventLog(place.name, "users", client=place.client)
        create_table(f"dynamodb://{place.name}", client=place.client)
    assert closed == []


# URLs

BAD_URLS = {
    "dynamodb:": "write dynamodb://TABLE",
    "dynamodb://": "write dynamodb://TABLE",
    "dynamodb:events": "write dynamodb://TABLE",
    "dynamodb:///events": "write dynamodb://TABLE",
    "dynamodb://ab": "3 to 255",
    f"dynamodb://{'a' * 256}": "3 to 255",
    "dynamodb://ev ents": "3 to 255",
    "dynamodb://events/more": "3 to 255",
    "dynamodb://events?regoin=eu-west-1": "no option 'regoin'; known options: endpoint_url, pending_shards, region",
    "dynamodb://events?region=eu-west-1&region=x": "gives an option twice: 'region'",
    "dynamodb://events?pending_shards=0": "from 1 to 64",
    "dynamodb://events?pending_shards=65": "from 1 to 64",
    "dynamodb://events?pending_shards=-1": "no whole number",
    "dynamodb://events?pending_shards=two": "no whole number",
    "dynamodb://events?pending_shards=1.5": "no whole number",
    "dynamodb://events?pending_shards=": "no whole number",
    "dynamodb://events?pending_shards=\u0661": "no whole number",
    "dynamodb://events?endpoint_url=127.0.0.1:8000": "endpoint_url",
    "dynamodb://events?endpoint_url=": "endpoint_url",
    "dynamodb://events?endpoint_url=ftp://127.0.0.1": "endpoint_url is a URL",
    "dynamodb://events?endpoint_url=http:127.0.0.1": "endpoint_url is a URL",
    "dynamodb://events?endpoint_url=http://&region=us-east-1": "dynamodb://events",
    "dynamodb://events?region=no%20region": "dynamodb://events",
    "dynamodb://events?region=": "region='' is no region",
    "dynamodb://events#new": "# and what follows it mean nothing",
    "dynamodb://events#new?region=us-east-1": "# and what follows it mean nothing",
    "dynamodb://events?region=us-east-1#new": "# and what follows it mean nothing",
    "dynamodb://arn:aws:dynamodb:us-east-1:123456789012:table/events": "is given an ARN",
    "arn:aws:dynamodb:us-east-1:123456789012:table/events": "write dynamodb://TABLE?region=REGION",
}


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_url_that_is_wrong_is_refused_with_what_is_right(aws_environment: None, url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_event_log(url, "users")
    assert BAD_URLS[url] in caught.value.message
    with pytest.raises(ConfigurationError, match=re.escape(BAD_URLS[url])):
        create_table(url)


@pytest.mark.parametrize(
    "url",
    [
        "dynamodb://me:hunter2@events",
        "dynamodb://hunter2@events?region=us-east-1",
        "dynamodb://events?endpoint_url=http://me:hunter2@127.0.0.1:1",
        "dynamodb://events?endpoint_url=https://hunter2@127.0.0.1",
        "dynamodb://events?endpoint_url=http%3A%2F%2Fme%3Ahunter2%40127.0.0.1%3A1",
        "dynamodb://events?endpoint_url=http%3A%2F%2Fme%3Ahunter2%2F%40127.0.0.1%3A1",
        "dynamodb://events?endpoint_url=http:hunter2",
        "dynamodb://events?aws_secret_access_key=hunter2",
    ],
)
def test_a_secret_in_a_url_is_refused_and_never_repeated(aws_environment: None, url: str) -> None:
    for use in (create_table, lambda url: open_event_log(url, "users")):
        with pytest.raises(ConfigurationError) as caught:
            use(url)
        error: BaseException | None = caught.value
        while error is not None:
            assert "hunter2" not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"name": "ev ents"}, "3 to 255 of A-Z"),
        ({"name": 5}, "3 to 255 of A-Z"),
        ({"table": "us ers"}, "'us ers' is no table name"),
        ({"region": 5}, "region=5 is no region"),
        ({"region": ""}, "region='' is no region"),
        ({"endpoint_url": 5}, "endpoint_url is a URL"),
        ({"endpoint_url": "http://me:hunter2@127.0.0.1:1"}, "leave them out"),
        ({"client": 5}, "client is a builtins.int, and no low-level client of DynamoDB"),
        ({"client": "resource"}, "a resource has one in resource.meta.client"),
        ({"client": "s3"}, "client is a botocore.client.S3, and no low-level client"),
        ({"client": "dynamodb", "region": servers.REGION}, "has its region already"),
        ({"client": "dynamodb", "endpoint_url": "http://127.0.0.1:1"}, "has its endpoint_url already"),
    ],
    ids=str,
)
def test_an_argument_that_is_wrong_is_refused_by_its_name(
    aws_environment: None, wrong: dict[str, Any], said: str
) -> None:
    session = servers.session()
    clients: dict[Any, Any] = {
        "resource": session.resource("dynamodb", region_name=servers.REGION),
        "s3": session.client("s3", region_name=servers.REGION),
        "dynamodb": session.client("dynamodb", region_name=servers.REGION),
    }
    given = {"name": "events", "table": "users", **wrong}
    if "client" in given:
        given["client"] = clients.get(given["client"], given["client"])
    with pytest.raises(ConfigurationError) as caught:
        DynamoDBEventLog(**given)
    assert said in caught.value.message
    assert "hunter2" not in str(caught.value)


def test_a_client_of_ones_own_makes_a_table_where_the_url_names_no_other_place(aws_environment: None) -> None:
    client = servers.session().client("dynamodb", region_name=servers.REGION)
    for option in ("region=us-east-1", "endpoint_url=http://127.0.0.1:1"):
        with pytest.raises(ConfigurationError, match="not both"):
            create_table(f"dynamodb://events?{option}", client=client)


@pytest.mark.parametrize("shards", [0, 65, True, 1.0, "4", None])
def test_a_number_of_shards_that_is_none_is_refused(aws_environment: None, shards: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"pending_shards=.* is no whole number from 1 to 64"):
        DynamoDBEventLog("events", "users", region=servers.REGION, pending_shards=shards)


def test_without_a_region_the_error_says_where_to_give_one(
    aws_environment: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    with pytest.raises(ConfigurationError, match=r"add \?region=… to the URL, or set AWS_REGION"):
        open_event_log("dynamodb://events", "users")
    with pytest.raises(ConfigurationError, match="region"):
        create_table("dynamodb://events")


def test_without_credentials_the_error_says_where_boto3_looks_for_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(EventLogError, match="in its own chain: environment, profile, role") as caught:
        open_event_log(place.events, "users")
    assert not caught.value.retryable


def test_a_url_opens_a_log_with_its_options(place: Place) -> None:
    create_table(place.events)
    with closing(open_event_log(f"{place.events}&pending_shards=4", "users")) as log:
        assert log.location == f"dynamodb://{place.name}"
        assert repr(log) == f"DynamoDBEventLog('{place.name}', table='users')"
        assert log.record_limit == 4_000_000
        append(log, "a")
    meta: Any = place.client.get_item(TableName=place.name, Key=rows.key_of("__users__", "__meta__"))
    assert meta["Item"]["shards"] == {"NS": ["4"]}


def test_the_region_of_the_environment_is_used_where_the_url_names_none(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"dynamodb://{place.name}?endpoint_url={quote(place.url)}"
    create_table(url)
    open_event_log(url, "users").close()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")  # where there is no such table
    with pytest.raises(EventLogError, match="create-table"):
        open_event_log(url, "users")
