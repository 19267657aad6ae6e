"""Pages and batches: shorter than they could be, and never larger than the service gives them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from dynalayer.testing.dynamodb.faults import Plan
from dynalayer.testing.dynamodb.indexes import LaggingIndexes
from dynalayer.testing.dynamodb.keys import IndexKeys, TableKeys, projected_names
from dynalayer.testing.dynamodb.limits import MAX_BATCH_BYTES, MAX_PAGE_BYTES, MAX_RANGE_BYTES, cut_batch, page_length
from dynalayer.testing.dynamodb.messages import Answer, Item, Request
from dynalayer.testing.dynamodb.service import Service

__all__ = ["BATCHES", "PAGED", "Pages"]

PAGED = ("Query", "Scan")
"""Operations that answer in pages."""

BATCHES = {"BatchGetItem": "UnprocessedKeys", "BatchWriteItem": "UnprocessedItems"}
"""Operations that may leave a part undone, and where they tell which."""

Execute = Callable[[Request, Mapping[str, Any] | None, Plan], Answer]
"""Forwards a request, with another body if one is given."""


class Pages:
    """Executes what answers in pages, and batches.

    Args:
        service: The endpoint.
        indexes: What global indexes do not show yet.
        execute: Forwards what may write.
        tell: Counts what happens, by name.
    """

    def __init__(
        self, service: Service, indexes: LaggingIndexes, execute: Execute, tell: Callable[[str, int], None]
    ) -> None:
        self._service = service
        self._indexes = indexes
        self._execute = execute
        self._tell = tell

    def page(self, request: Request, plan: Plan) -> Answer:
        """Execute a Query or Scan.

        Raises:
            UnreachableError: The endpoint did not answer.
        """
        keys = self._service.keys(request.body.get("TableName"))
        asked = request.body
        if plan.rng.random() < plan.faults.short_page:
            if keys is not None and plan.rng.random() < 0.25 and (empty := self._empty(request, keys)):
                self._tell("short_page", 1)
                return empty
            asked = self._shorten(asked, plan)
        index = keys.indexes.get(asked.get("IndexName") or "") if keys else None
        if keys is not None and index is not None and index.lagging and plan.faults.index_lag > 0:
            return self._lagging(request, asked, keys, index)
        answer = self._service.forward(request, None if asked is request.body else asked)
        # JSON is never shorter than what DynamoDB measures.
        if keys is None or not answer.good or len(answer.body) <= MAX_PAGE_BYTES:
            return answer
        return Answer.of(self._cut(request, asked, keys, answer.content()))

    def _lagging(self, request: Request, asked: dict[str, Any], keys: TableKeys, index: IndexKeys) -> Answer:
        counted = asked.get("Select") == "COUNT"
        if counted:  # the entries are needed to tell which of them count
            asked = {name: value for name, value in asked.items() if name != "Select"}
        asked, added = _with_keys(asked, (*keys.names, *index.names))
        answer = self._service.forward(request, asked)
        if not answer.good:
            return answer
        content = answer.content()
        shown = self._indexes.show(asked, keys, content)
        self._tell("index_hidden", shown.hidden)
        self._tell("index_kept", shown.kept)
        content = self._cut(request, asked, keys, content)
        for item in content["Items"]:
            for name in added:
                item.pop(name, None)
        if counted:
            del content["Items"]
        return Answer.of(content)

    def _shorten(self, asked: dict[str, Any], plan: Plan) -> dict[str, Any]:
        limit = plan.rng.choice((1, 1, 2, 3, 5, 10))
        if limit >= (asked.get("Limit") or limit + 1):
            return asked
        self._tell("short_page", 1)
        return asked | {"Limit": limit}

    def _empty(self, request: Request, keys: TableKeys) -> Answer | None:
        """A page of nothing that is nevertheless on its way; None where the truth does not allow it.

        It ends at the very next key, where nothing is. Where that is can be told of a table's sort keys that are text,
        going up. It cannot end where it began: clients take that for a loop.
        """
        asked = request.body
        start = asked.get("ExclusiveStartKey")
        upwards = asked.get("ScanIndexForward") is not False
        if request.operation != "Query" or asked.get("IndexName") or not start or not upwards or keys.range is None:
            return None
        last = (start.get(keys.range) or {}).get("S")
        if last is None or len(last.encode()) >= MAX_RANGE_BYTES:
            return None
        end = start | {keys.range: {"S": last + "\0"}}
        if self._service.batch_get(asked["TableName"], [end]):
            return None
        return Answer.of({"Items": [], "Count": 0, "ScannedCount": 0, "LastEvaluatedKey": end})

    def _cut(
        self, request: Request, asked: Mapping[str, Any], keys: TableKeys, content: dict[str, Any]
    ) -> dict[str, Any]:
        items: list[Item] = content.get("Items") or []
        length = page_length(items)
        if length == len(items):
            return content
        index = keys.indexes.get(asked.get("IndexName") or "")
        names = (*keys.names, *(index.names if index else ()))
        if all(name in items[length - 1] for name in names):
            self._tell("page_cut", 1)
            dropped = len(items) - length
            end = {name: items[length - 1][name] for name in names}
            counts = {name: content[name] - dropped for name in ("Count", "ScannedCount")}
            return content | counts | {"Items": items[:length], "LastEvaluatedKey": end}
        if asked.get("FilterExpression"):
            return content  # neither the last key nor the number of items looked at can be known
        answer = self._service.forward(request, {**asked, "Limit": length})
        if not answer.good:
            return content
        self._tell("page_cut", 1)
        return answer.content()

    def batch(self, request: Request, plan: Plan) -> Answer:
        """Execute a BatchGetItem or BatchWriteItem.

        Raises:
            UnreachableError: The endpoint did not answer.
        """
        where = BATCHES[request.operation]
        body, held = request.body, dict[str, Any]()
        if plan.rng.random() < plan.faults.unprocessed:
            with suppress(AttributeError, LookupError, TypeError):  # it is malformed: the endpoint says how
                body, held = _hold_back(request.body, plan)
        answer = self._execute(request, body if held else None, plan)
        large = request.operation == "BatchGetItem" and len(answer.body) > MAX_BATCH_BYTES
        if not answer.good or not (held or large):
            return answer
        content = answer.content()
        if large and cut_batch(content, body["RequestItems"], self._service.keys):
            self._tell("page_cut", 1)
        if held:
            self._tell("unprocessed", 1)
            content[where] = _merged(content.get(where) or {}, held)
        return Answer.of(content)


def _with_keys(asked: dict[str, Any], keys: Iterable[str]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A request whose projection has the keys, by which entries are told apart; and those that it had not."""
    wanted = projected_names(asked)
    added = () if wanted is None else tuple(dict.fromkeys(name for name in keys if name not in wanted))
    if not added:
        return asked, ()
    placeholders = {f"#added{number}": name for number, name in enumerate(added)}
    changed = {
        "ProjectionExpression": ", ".join((asked["ProjectionExpression"], *placeholders)),
        "ExpressionAttributeNames": (asked.get("ExpressionAttributeNames") or {}) | placeholders,
    }
    return asked | changed, added


def _hold_back(body: dict[str, Any], plan: Plan) -> tuple[dict[str, Any], dict[str, Any]]:
    """A batch in two parts: what is asked for, and what is not; all of it is asked for where it cannot be parted."""
    places = [(table, number) for table, part in body["RequestItems"].items() for number in range(len(_entries(part)))]
    if len(places) < 2:
        return body, {}
    held = set(plan.rng.sample(places, plan.rng.randint(1, len(places) - 1)))
    parts: list[dict[str, Any]] = [{}, {}]
    for table, part in body["RequestItems"].items():
        for which, half in enumerate(parts):
            entries = [entry for number, entry in enumerate(_entries(part)) if ((table, number) in held) == bool(which)]
            if entries:
                half[table] = _with_entries(part, entries)
    return body | {"RequestItems": parts[0]}, parts[1]


def _merged(left: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    merged = dict(left)
    for table, part in held.items():
        known = merged.get(table)
        merged[table] = part if known is None else _with_entries(part, [*_entries(known), *_entries(part)])
    return merged


def _entries(part: Any) -> list[Any]:
    entries: list[Any] = part["Keys"] if isinstance(part, dict) else part
    return entries


def _with_entries(part: Any, entries: list[Any]) -> Any:
    return part | {"Keys": entries} if isinstance(part, dict) else entries
