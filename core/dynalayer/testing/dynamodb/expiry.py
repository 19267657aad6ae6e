"""What the service does with items whose ttl has passed: it deletes them, some time later, in no order."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any

from dynalayer.testing.dynamodb.messages import Answer, Item
from dynalayer.testing.dynamodb.service import Service, UnreachableError

__all__ = ["Expiry"]

_OLDEST = 5 * 365 * 24 * 3600  # seconds: what expired before is left, for it may be no moment at all
_MOST = 10_000  # items in a round

Delete = Callable[[str, dict[str, Any], random.Random], Answer]
"""Executes a DeleteItem on a table, so that indexes follow it as any other write."""


class Expiry:
    """Deletes items whose ttl has passed, of the tables that were asked for.

    Args:
        service: The endpoint.
        clock: Tells the moment in seconds since the epoch.
        delete: Executes a DeleteItem.
        rng: Decides on the order.
    """

    def __init__(self, service: Service, clock: Callable[[], float], delete: Delete, rng: random.Random) -> None:
        self._service = service
        self._clock = clock
        self._delete = delete
        self._rng = rng
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, every: float, tell: Callable[[int], object]) -> None:
        """Delete some of what has expired, and tell how many, every so many seconds until it is closed."""

        def work() -> None:
            while not self._closing.wait(every):
                with suppress(UnreachableError):  # the next round may come through
                    tell(self.expire(None, part=0.5))

        self._thread = threading.Thread(target=work, name="expiry", daemon=True)
        self._thread.start()

    def expire(self, limit: int | None, *, part: float = 1.0) -> int:
        """One round.

        Args:
            limit: Items deleted at most.
            part: How likely each is deleted in this round.

        Returns:
            Items deleted.

        Raises:
            UnreachableError: The endpoint did not answer.
        """
        with self._lock:
            due = [(table, name, key, ttl) for table in self._service.tables() for name, key, ttl in self._due(table)]
            self._rng.shuffle(due)
            due = [each for each in due if part >= 1.0 or self._rng.random() < part][:limit]
            done = 0
            for table, name, key, ttl in due:
                if self._closing.is_set():
                    break
                done += self._delete_one(table, name, key, ttl)
            return done

    def close(self) -> None:
        """Stop after the item that is being deleted."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _delete_one(self, table: str, name: str, key: Item, ttl: dict[str, str]) -> bool:
        # On condition of the ttl that was seen: another may have been given meanwhile, or none.
        body = {
            "Key": key,
            "ConditionExpression": "#ttl = :ttl",
            "ExpressionAttributeNames": {"#ttl": name},
            "ExpressionAttributeValues": {":ttl": ttl},
        }
        return self._delete(table, body, self._rng).good

    def _due(self, table: str) -> list[tuple[str, Item, dict[str, str]]]:
        keys = self._service.keys(table)
        answer = self._service.call("DescribeTimeToLive", table)
        if keys is None or not answer.good:
            return []
        description = answer.content()["TimeToLiveDescription"]
        if description.get("TimeToLiveStatus") != "ENABLED":
            return []
        name = description["AttributeName"]
        placeholders = {f"#{number}": wanted for number, wanted in enumerate({*keys.names, name})}
        how: dict[str, Any] = {
            "ConsistentRead": True,
            "ProjectionExpression": ", ".join(placeholders),
            "ExpressionAttributeNames": placeholders,
        }
        due: list[tuple[str, Item, dict[str, str]]] = []
        while len(due) < _MOST:
            answer = self._service.call("Scan", table, **how)
            if not answer.good:
                break
            now = self._clock()
            content = answer.content()
            due += [(name, keys.key_of(item), item[name]) for item in content["Items"] if _passed(item.get(name), now)]
            if "LastEvaluatedKey" not in content:
                break
            how["ExclusiveStartKey"] = content["LastEvaluatedKey"]
        return due


def _passed(ttl: dict[str, str] | None, now: float) -> bool:
    if ttl is None or "N" not in ttl:
        return False
    try:
        return now - _OLDEST < Decimal(ttl["N"]) < now
    except InvalidOperation:
        return False
