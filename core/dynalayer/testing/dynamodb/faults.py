"""What goes wrong at `dynalayer.testing.dynamodb`, how often, and how the service says so."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import count
from typing import Any

from dynalayer.errors import ConfigurationError
from dynalayer.testing.dynamodb.messages import Answer

__all__ = ["NO_FAULTS", "Dice", "Fate", "Faults", "Later", "Plan", "server_error", "throttled"]

_SECONDS = ("lateness", "index_lag")
_SINGLE_WRITES = ("DeleteItem", "PutItem", "UpdateItem")
_ITEM_OPERATIONS = (
    *_SINGLE_WRITES,
    *("BatchGetItem", "BatchWriteItem", "GetItem", "Query", "Scan", "TransactGetItems", "TransactWriteItems"),
)
_THROTTLES = (
    Answer.error(
        "ProvisionedThroughputExceededException",
        "The level of configured provisioned throughput for the table was exceeded. "
        "Consider increasing your provisioning level with the UpdateTable API.",
    ),
    Answer.error(
        "RequestLimitExceeded",
        "Throughput exceeds the current throughput limit for your account. "
        "Please contact AWS Support to request a limit increase.",
    ),
    Answer.error(
        "com.amazon.coral.availability#ThrottlingException", "Rate of requests exceeds the allowed throughput."
    ),
)
_CONFLICT = Answer.error("TransactionConflictException", "Transaction is ongoing for the item")
_REASONS = {
    "TransactionConflict": "Transaction is ongoing for the item",
    "ThrottlingError": "Throughput exceeds the current capacity of your table or index. "
    "DynamoDB is automatically scaling your table or index so please try again shortly.",
}


@dataclass(frozen=True, slots=True)
class Faults:
    """How likely each fault is, from 0 to 1, and how long what takes long.

    At most one of the first six happens to a request: they are tried in this order.

    Attributes:
        lost_request: The connection is closed, and the service never hears of the request.
        late_request: The connection is closed at once, and the request is executed up to `lateness` seconds later.
        throttle: The service refuses, as where there is too much to do: a throttling error, a conflict with another
            transaction, or a transaction that was cancelled for one of these. Nothing was executed.
        server_error: HTTP 500; half of them after the request was executed, half without.
        lost_answer: The request is executed, and the connection is closed without an answer.
        late_answer: The answer comes up to `lateness` seconds after the request was executed.
        lateness: Seconds.
        unprocessed: A part of the keys of a BatchGetItem or BatchWriteItem is left unprocessed. Never all of them:
            the service answers that with a throttling error.
        short_page: A page of Query or Scan is shorter than it could be, with a LastEvaluatedKey. Later pages of a
            table's Query may be empty: such a LastEvaluatedKey is no item's.
        index_lag: Seconds, by the proxy's clock, after which a global index shows a write at the latest. Each write
            has a lag of its own below that; those to one item come to the index in their order. Until then the
            index lacks entries that came, and has those that went; these in the answer of a Query without a filter.
            Only writes through this proxy lag.

    Raises:
        ConfigurationError: A probability is no number from 0 to 1, or a time is none, below 0 or endless.
    """

    lost_request: float = 0.0
    late_request: float = 0.0
    throttle: float = 0.0
    server_error: float = 0.0
    lost_answer: float = 0.0
    late_answer: float = 0.0
    lateness: float = 1.0
    unprocessed: float = 0.0
    short_page: float = 0.0
    index_lag: float = 0.0

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            highest = math.inf if each.name in _SECONDS else 1.0
            number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
            if not (0 <= number <= highest and math.isfinite(number)):
                what = "a time in seconds" if each.name in _SECONDS else "a probability from 0 to 1"
                raise ConfigurationError(f"{each.name}={value!r:.50} is not {what}")


NO_FAULTS = Faults()
"""Nothing goes wrong; the service's limits hold."""


class Fate(StrEnum):
    """What becomes of a request, in the order in which it is tried."""

    LOST_REQUEST = "lost_request"
    LATE_REQUEST = "late_request"
    THROTTLE = "throttle"
    SERVER_ERROR = "server_error"
    LOST_ANSWER = "lost_answer"
    LATE_ANSWER = "late_answer"


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to one request.

    Attributes:
        fate: What becomes of it; None where nothing does.
        faults: As they were when it arrived.
        rng: Decides all that is to be decided while it is executed.
    """

    fate: Fate | None
    faults: Faults
    rng: random.Random


class Dice:
    """Decides what happens, request by request.

    One number is drawn for each request that arrives, and all that happens to it follows from that: the same order of
    requests meets the same faults, whatever happens in between and at the same time.

    Args:
        seed: Where it begins.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 -- it must repeat
        self._lock = threading.Lock()

    def plan(self, faults: Faults) -> Plan:
        """The plan for a request that arrives now."""
        with self._lock:
            own = self._random.getrandbits(64)
        rng = random.Random(own)  # noqa: S311 -- likewise
        drawn = [fate for fate in Fate if rng.random() < getattr(faults, fate.value)]
        return Plan(drawn[0] if drawn else None, faults, rng)


def throttled(operation: str, body: dict[str, Any], rng: random.Random) -> Answer:
    """How the service refuses for want of capacity, or for another's transaction."""
    if operation in ("TransactGetItems", "TransactWriteItems") and rng.random() < 0.5:
        return _cancelled(len(body.get("TransactItems") or ()), rng)
    if operation in _SINGLE_WRITES and rng.random() < 0.25:
        return _CONFLICT
    return rng.choice(_THROTTLES) if operation in _ITEM_OPERATIONS else _THROTTLES[-1]


def _cancelled(actions: int, rng: random.Random) -> Answer:
    code, message = rng.choice(list(_REASONS.items()))
    reasons: list[dict[str, str]] = [{"Code": "None"} for _ in range(max(1, actions))]
    reasons[rng.randrange(len(reasons))] = {"Code": code, "Message": message}
    codes = ", ".join(reason["Code"] for reason in reasons)
    # `Message`, as the service has it here alone.
    content = {
        "Message": f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        "CancellationReasons": reasons,
    }
    return Answer.of({"__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException", **content}, 400)


def server_error() -> Answer:
    """HTTP 500, as the service sends it."""
    return Answer.error("InternalServerError", "Internal server error", status=500)


class Later:
    """Does things after a while, a few at a time.

    Args:
        workers: Threads that do them, started with the first.
        most: How many may wait.
    """

    def __init__(self, workers: int = 4, most: int = 256) -> None:
        self._most = most
        self._workers = workers
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Callable[[], object]]] = []
        self._number = count()
        self._busy = 0
        self._closed = False
        self._threads: list[threading.Thread] = []

    def add(self, delay: float, do: Callable[[], object]) -> bool:
        """Have something done after `delay` seconds; False where too much waits, or it is closed."""
        with self._changed:
            if self._closed or len(self._waiting) >= self._most:
                return False
            heapq.heappush(self._waiting, (time.monotonic() + delay, next(self._number), do))
            if len(self._threads) < self._workers:
                thread = threading.Thread(target=self._work, name="late requests", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()
            return True

    def settle(self, timeout: float) -> bool:
        """Wait until nothing waits and nothing is being done; False where that takes more than `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout)

    def close(self) -> int:
        """Discard what waits, and wait for what is being done; returns how much was discarded."""
        with self._changed:
            self._closed = True
            discarded = len(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        return discarded

    def _work(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._waiting or (left := self._waiting[0][0] - time.monotonic()) > 0:
                    self._changed.wait(left if self._waiting else None)
                    continue
                _, _, do = heapq.heappop(self._waiting)
                self._busy += 1
                self._changed.release()
                try:
                    do()
                finally:
                    self._changed.acquire()
                    self._busy -= 1
                    self._changed.notify_all()
