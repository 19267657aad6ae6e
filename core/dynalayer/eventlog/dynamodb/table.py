"""The table itself: making it, and refusing one that is not what the log needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dynalayer.errors import LayoutError
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.rows import INDEX

__all__ = ["TableMade", "check_table", "make_table"]

_KEYS = {"pk": "HASH", "sk": "RANGE"}
_INDEX_KEYS = {"cursor": "HASH", "pk": "RANGE"}
_TTL = "ttl"
_FIRST_GLOBAL_TABLES = "2017.11.29"  # of that version no replicas are told


@dataclass(frozen=True, slots=True)
class TableMade:
    """What `create_table` did.

    Attributes:
        name: The table's name.
        created: Whether it was made; False where it was there already, be it by a try whose answer was lost.
        ttl_enabled: Whether TTL was switched on; False where it was on already.
    """

    name: str
    created: bool
    ttl_enabled: bool


def make_table(connection: Connection) -> TableMade:
    """Make the table, or see that what is there is one; `create_table` says the rest."""
    created = connection.make_table(
        KeySchema=_schema(_KEYS),
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in ("pk", "sk", "cursor")],
        GlobalSecondaryIndexes=[
            {"IndexName": INDEX, "KeySchema": _schema(_INDEX_KEYS), "Projection": {"ProjectionType": "KEYS_ONLY"}}
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    connection.wait_until_active()
    table = connection.describe()
    _refuse(connection, _made_otherwise(table), _to_mend(table))
    on = connection.ttl_attribute()
    if on is None:
        connection.enable_ttl(_TTL)
    else:
        _refuse(connection, [], _wrong_ttl(on))
    return TableMade(connection.name, created=created, ttl_enabled=on is None)


def _schema(keys: dict[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()]


def check_table(connection: Connection) -> None:
    """Refuse a table that is not what the log needs.

    Raises:
        LayoutError: It is not; says all that is wrong, and how to mend it.
        EventLogError: It is not there, or cannot be described.
    """
    table = connection.describe()
    _refuse(connection, _made_otherwise(table), _to_mend(table))
    _refuse(connection, [], _wrong_ttl(connection.ttl_attribute()))


def _refuse(connection: Connection, made_otherwise: list[str], to_mend: list[str]) -> None:
    """Refuse a table that was made otherwise, or that lacks what its owner can mend; each says the way out."""
    if made_otherwise:
        raise LayoutError(
            f"{connection.location} is no table of an event log: {'; '.join([*made_otherwise, *to_mend])}. "
            "Name another one: 'dynalayer create-table URL' makes it as it should be"
        )
    if to_mend:
        raise LayoutError(f"{connection.location} is not ready for an event log: {'; '.join(to_mend)}")


def _wrong_ttl(attribute: str | None) -> list[str]:
    if attribute is None:
        return [
            "TTL is off: what is folded would be kept, and paid for, for good; 'dynalayer create-table' switches it on"
        ]
    if attribute != _TTL:
        return [
            f"TTL is on attribute {attribute!r}, not on {_TTL!r}; switch that off, then run 'dynalayer create-table'"
        ]
    return []


def _to_mend(table: dict[str, Any]) -> list[str]:
    """What is wrong with a table, by its description, and need not stay so."""
    states = {"it": table.get("TableStatus")} | {
        f"index {INDEX!r}": index.get("IndexStatus", "ACTIVE")
        for index in table.get("GlobalSecondaryIndexes", ())
        if index["IndexName"] == INDEX
    }
    wrong = [
        f"{what} is {state}, not ACTIVE; wait, and try again"
        for what, state in states.items()
        if state not in ("ACTIVE", "UPDATING")
    ]
    if table.get("Replicas") or table.get("GlobalTableVersion") == _FIRST_GLOBAL_TABLES:
        # Developer Guide, "How DynamoDB global tables work".
        why = "its conditions hold within one region, and the last writer wins: acknowledged events would vanish"
        if table.get("MultiRegionConsistency") == "STRONG":
            why = "a strongly consistent one has neither TTL nor transactions"
        wrong.append(f"it is a global table, and {why}; remove its replicas, or name one of a single region")
    return wrong


def _made_otherwise(table: dict[str, Any]) -> list[str]:
    """All that a table was made with otherwise, by its description."""
    types = {each["AttributeName"]: each["AttributeType"] for each in table.get("AttributeDefinitions", ())}
    wrong = _wrong_keys("its key", table.get("KeySchema", ()), _KEYS, types)
    indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", ())}
    index = indexes.get(INDEX)
    if index is None:
        wrong.append(f"it has no global secondary index {INDEX!r}")
        return wrong
    wrong += _wrong_keys(f"the key of index {INDEX!r}", index.get("KeySchema", ()), _INDEX_KEYS, types)
    projection = index.get("Projection", {}).get("ProjectionType")
    if projection != "KEYS_ONLY":
        wrong.append(f"index {INDEX!r} projects {projection}, not KEYS_ONLY: each record would be paid for twice")
    return wrong


def _wrong_keys(what: str, schema: Any, keys: dict[str, str], types: dict[str, str]) -> list[str]:
    found = {each["AttributeName"]: each["KeyType"] for each in schema}
    if found != keys:
        return [f"{what} is {_told(found)}, not {_told(keys)}"]
    return [f"{name!r} of {what} is of type {types.get(name)}, not S" for name in keys if types.get(name) != "S"]


def _told(keys: dict[str, str]) -> str:
    return " and ".join(f"{name} ({kind})" for name, kind in keys.items()) or "missing"
