"""Global indexes that follow their table after a while, as the service's do and its emulators' do not.

Each write is looked at with a strong read before and after it. Until its lag is over an index answers as if the item
were as before: an entry that came is not there yet, one that went still is.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from dynalayer.testing.dynamodb.keys import IndexKeys, TableKeys, comparable, frozen, key_conditions, projected_names
from dynalayer.testing.dynamodb.messages import Answer, Item
from dynalayer.testing.dynamodb.service import Service

__all__ = ["LaggingIndexes", "Shown"]

_STRIPES = 64
_MOST = 100_000  # changes kept; what is older counts as shown

Key = tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a lag made of a page.

    Attributes:
        hidden: Entries that are not shown yet.
        kept: Entries that are gone and still shown.
    """

    hidden: int = 0
    kept: int = 0


@dataclass(frozen=True, slots=True)
class _Change:
    before: Item | None
    shown_at: float


class LaggingIndexes:
    """What the global indexes do not show yet. It knows of the writes that are made by `write` alone.

    Args:
        service: The endpoint.
        clock: Tells the moment in seconds.
    """

    def __init__(self, service: Service, clock: Callable[[], float]) -> None:
        self._service = service
        self._clock = clock
        self._stripes = [threading.Lock() for _ in range(_STRIPES)]
        self._lock = threading.Lock()
        self._changes: dict[str, dict[Key, list[_Change]]] = defaultdict(dict)
        self._number = 0

    def clear(self) -> None:
        """Show everything from now on."""
        with self._lock:
            self._changes.clear()
            self._number = 0

    def write(
        self, operation: str, body: Mapping[str, Any], draw_lag: Callable[[], float], execute: Callable[[], Answer]
    ) -> Answer:
        """Execute a write, and let the global indexes show it after a while.

        Args:
            operation: Such as `PutItem`.
            body: The request's.
            draw_lag: Tells seconds, for each item in turn.
            execute: Makes the write.

        Raises:
            UnreachableError: The endpoint did not answer; of the write, it is open whether it was executed.
        """
        targets = self._targets(operation, body)
        if not targets:
            return execute()
        lags = {key: draw_lag() for key in targets}
        with self._held(targets):
            before = self._read(targets)
            answer = execute()
            after = self._read(targets)
            now = self._clock()
            with self._lock:
                for (table, key), lag in lags.items():
                    old = before.get((table, key))
                    if old != after.get((table, key)):
                        self._note(table, key, _Change(old, now + lag), now)
        return answer

    def show(self, body: Mapping[str, Any], keys: TableKeys, answer: dict[str, Any]) -> Shown:
        """Make a page of an index what the index shows at this moment.

        Entries that are gone are told from the key conditions, so that they are shown by a Query without a filter
        alone; and where the order says that they belong into this page.

        Args:
            body: The request's; if it has a projection, one with the keys.
            keys: Its table's.
            answer: Is changed.
        """
        index = keys.indexes[body["IndexName"]]
        views = self._views(body["TableName"])
        if not views:
            return Shown()
        items: list[Item] = answer["Items"]
        kept = [item for item in items if _shows(item, keys, index, views)]
        page = _Page(body, keys, index, answer)
        ghosts = page.ghosts(views, {frozen(keys.key_of(item)) for item in kept}) if page.orderly else []
        if len(kept) < len(items) or ghosts:
            page.fill(kept, ghosts)
        return Shown(len(items) - len(kept), len(ghosts))

    def _targets(self, operation: str, body: Mapping[str, Any]) -> dict[tuple[str, Key], Item]:
        targets: dict[tuple[str, Key], Item] = {}
        try:
            for table, item in _written(operation, body):
                keys = self._service.keys(table)
                if keys is not None and keys.lagging:
                    key = keys.key_of(item)
                    targets[table, frozen(key)] = key
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            return {}  # it is malformed: the endpoint refuses it
        return targets

    @contextmanager
    def _held(self, targets: Mapping[tuple[str, Key], Item]) -> Iterator[None]:
        # One write at a time to each item, so that what is read before and after it is its own doing.
        with ExitStack() as stack:
            for stripe in sorted({hash(target) % _STRIPES for target in targets}):
                stack.enter_context(self._stripes[stripe])
            yield

    def _read(self, targets: Mapping[tuple[str, Key], Item]) -> dict[tuple[str, Key], Item]:
        by_table: dict[str, list[Item]] = defaultdict(list)
        for (table, _), key in targets.items():
            by_table[table].append(key)
        found = {}
        for table, wanted in by_table.items():
            keys = self._service.keys(table)
            if keys is not None:
                for item in self._service.batch_get(table, wanted, **_projection(keys)):
                    found[table, frozen(keys.key_of(item))] = item
        return found

    def _note(self, table: str, key: Key, change: _Change, now: float) -> None:
        if self._number >= _MOST:
            self._drop(now)
        changes = self._changes[table].setdefault(key, [])
        if changes and changes[-1].shown_at > change.shown_at:
            change = _Change(change.before, changes[-1].shown_at)
        changes.append(change)
        self._number += 1

    def _drop(self, now: float) -> None:
        # What is shown by now; if that is not much, all.
        for by_key in self._changes.values():
            for key in [key for key, changes in by_key.items() if changes[-1].shown_at <= now]:
                self._number -= len(by_key.pop(key))
        if self._number >= _MOST // 2:
            self._changes.clear()
            self._number = 0

    def _views(self, table: str) -> dict[Key, Item | None]:
        """The items that indexes see otherwise than they are: as what."""
        now = self._clock()
        with self._lock:
            by_key = self._changes.get(table) or {}
            views = {}
            for key in list(by_key):
                waiting = [change for change in by_key[key] if change.shown_at > now]
                self._number -= len(by_key[key]) - len(waiting)
                if waiting:
                    by_key[key] = waiting
                    views[key] = waiting[0].before
                else:
                    del by_key[key]
            return views


class _Page:
    def __init__(self, body: Mapping[str, Any], keys: TableKeys, index: IndexKeys, answer: dict[str, Any]) -> None:
        self._body, self._keys, self._index, self._answer = body, keys, index, answer
        self._start, self._end = body.get("ExclusiveStartKey"), answer.get("LastEvaluatedKey")
        self._conditions = key_conditions(body) or ()
        self._filtered = bool(body.get("FilterExpression"))
        self._wanted = projected_names(body)
        # Whether the items are all that there is, in order.
        self.orderly = (
            bool(self._conditions) and not self._filtered and not (index.range is None and (self._start or self._end))
        )

    def ghosts(self, views: Mapping[Key, Item | None], there: set[Key]) -> list[Item]:
        """What the index shows in this page though it is gone."""
        found = []
        for key, item in views.items():
            if item is None or key in there or not all(name in item for name in self._index.names):
                continue
            if all(condition.holds(item) for condition in self._conditions) and self._belongs(item):
                given = [each for each in (self._index.projected, self._wanted) if each is not None]
                found.append({name: item[name] for name in item if all(name in names for names in given)})
        return found

    def fill(self, kept: list[Item], ghosts: list[Item]) -> None:
        """Put entries into the page, as many as it was asked for; the next goes on after the last."""
        if ghosts:
            # Stable: those that are there keep the endpoint's order, which is the one it goes on in.
            kept = sorted([*kept, *ghosts], key=self._place, reverse=self._body.get("ScanIndexForward") is False)
        limit = self._body.get("Limit")
        if limit is not None and len(kept) > limit:
            kept = kept[:limit]
            names = dict.fromkeys((*self._keys.names, *self._index.names))
            self._answer["LastEvaluatedKey"] = {name: kept[-1][name] for name in names}
        self._answer["Items"] = kept
        self._answer["Count"] = len(kept)
        if not self._filtered:
            self._answer["ScannedCount"] = len(kept)

    def _place(self, item: Item) -> Any:
        return comparable(item[self._index.range]) if self._index.range is not None else 0

    def _belongs(self, item: Item) -> bool:
        if self._index.range is None:
            return True
        # With a limit the page may have to end at this entry. One that shares its place with others is left out then:
        # among those only the endpoint knows the order.
        if self._body.get("Limit") is not None and self._place(item) in map(self._place, self._answer["Items"]):
            return False
        places = [self._place(key) if key else None for key in (self._start, self._end)]
        low, high = reversed(places) if self._body.get("ScanIndexForward") is False else places
        return bool((low is None or low < self._place(item)) and (high is None or self._place(item) < high))


def _shows(item: Item, keys: TableKeys, index: IndexKeys, views: Mapping[Key, Item | None]) -> bool:
    if not all(name in item for name in keys.names):
        return True  # a projection left its key out: it cannot be told
    key = frozen(keys.key_of(item))
    if key not in views:
        return True
    view = views[key]
    return view is not None and all(view.get(name) == item.get(name) for name in index.names)


def _projection(keys: TableKeys) -> dict[str, object]:
    # The keys alone, where no index has more: items may be large.
    lagging = [index for index in keys.indexes.values() if index.lagging]
    names = set(keys.names).union(*(index.names for index in lagging))
    if any(index.projected is None or not names >= index.projected for index in lagging):
        return {}
    placeholders = {f"#{number}": name for number, name in enumerate(sorted(names))}
    return {"ProjectionExpression": ", ".join(placeholders), "ExpressionAttributeNames": placeholders}


def _written(operation: str, body: Mapping[str, Any]) -> Iterator[tuple[str, Item]]:
    """The tables and items, or their keys, that a request writes."""
    if operation in ("PutItem", "UpdateItem", "DeleteItem"):
        yield body["TableName"], body["Item"] if operation == "PutItem" else body["Key"]
    elif operation == "BatchWriteItem":
        for table, writes in body["RequestItems"].items():
            for write in writes:
                yield table, write["PutRequest"]["Item"] if "PutRequest" in write else write["DeleteRequest"]["Key"]
    elif operation == "TransactWriteItems":
        for part in body["TransactItems"]:
            for kind, action in part.items():
                if kind != "ConditionCheck":
                    yield action["TableName"], action["Item"] if kind == "Put" else action["Key"]
