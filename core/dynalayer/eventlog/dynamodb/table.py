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


@dataclass(frozen=True, slots=True)
class TableMade:
    """What `create_table` did.

    Attributes:
        name: The table's name.
        created: Whether it was made; False where it was there already.
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
    wrong = _wrong(connection.describe())
    if wrong:
        raise _refused(connection, wrong)
    ttl = connection.describe_ttl()
    enabled = _ttl_is_off(ttl)
    if enabled:
        connection.enable_ttl(_TTL)
    elif ttl.get("AttributeName") != _TTL:
        raise _refused(connection, [f"TTL is on attribute {ttl.get('AttributeName')!r}, not on {_TTL!r}"])
    return TableMade(connection.name, created=created, ttl_enabled=enabled)


def _schema(keys: dict[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()]


def check_table(connection: Connection) -> None:
    """Refuse a table that is not what the log needs.

    Raises:
        LayoutError: It is not; says all that is wrong, and how to mend it.
        EventLogError: It is not there, or cannot be described.
    """
    table = connection.describe()
    wrong = _wrong(table)
    if not wrong:
        ttl = connection.describe_ttl()
        if _ttl_is_off(ttl):
            wrong.append("TTL is off: what is folded would be kept, and paid for, forever; create-table switches it on")
        elif ttl.get("AttributeName") != _TTL:
            wrong.append(f"TTL is on attribute {ttl.get('AttributeName')!r}, not on {_TTL!r}")
    if wrong:
        raise _refused(connection, wrong)


def _refused(connection: Connection, wrong: list[str]) -> LayoutError:
    return LayoutError(
        f"{connection.location} is no table of an event log: {'; '.join(wrong)}. Name another one: "
        "'dynalayer create-table URL' makes it as it should be"
    )


def _ttl_is_off(ttl: dict[str, Any]) -> bool:
    return ttl.get("TimeToLiveStatus") not in ("ENABLED", "ENABLING")


def _wrong(table: dict[str, Any]) -> list[str]:
    """All that is wrong with a table's description."""
    wrong: list[str] = []
    if table.get("TableStatus") not in ("ACTIVE", "UPDATING"):
        wrong.append(f"it is {table.get('TableStatus')}, not ACTIVE; wait, and try again")
    types = {each["AttributeName"]: each["AttributeType"] for each in table.get("AttributeDefinitions", ())}
    wrong += _wrong_keys("its key", table.get("KeySchema", ()), _KEYS, types)
    indexes = {index["IndexName"]: index for index in table.get("GlobalSecondaryIndexes", ())}
    index = indexes.get(INDEX)
    if index is None:
        wrong.append(f"it has no global secondary index {INDEX!r}")
        return wrong
    wrong += _wrong_keys(f"the key of index {INDEX!r}", index.get("KeySchema", ()), _INDEX_KEYS, types)
    projection = index.get("Projection", {}).get("ProjectionType")
    if projection != "KEYS_ONLY":
        wrong.append(f"index {INDEX!r} projects {projection}, not KEYS_ONLY: each record would be paid for twice")
    if index.get("IndexStatus") not in ("ACTIVE", "UPDATING", None):
        wrong.append(f"index {INDEX!r} is {index.get('IndexStatus')}, not ACTIVE; wait, and try again")
    return wrong


def _wrong_keys(what: str, schema: Any, keys: dict[str, str], types: dict[str, str]) -> list[str]:
    found = {each["AttributeName"]: each["KeyType"] for each in schema}
    if found != keys:
        return [f"{what} is {_told(found)}, not {_told(keys)}"]
    return [f"{name!r} of {what} is of type {types.get(name)}, not S" for name in keys if types.get(name) != "S"]


def _told(keys: dict[str, str]) -> str:
    return " and ".join(f"{name} ({kind})" for name, kind in keys.items()) or "missing"
