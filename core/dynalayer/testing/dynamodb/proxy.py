"""The proxy: what becomes of each request."""

from __future__ import annotations

import random
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Self

import orjson

from dynalayer.testing.dynamodb.expiry import Expiry
from dynalayer.testing.dynamodb.faults import NO_FAULTS, Dice, Fate, Faults, Later, Plan, server_error, throttled
from dynalayer.testing.dynamodb.indexes import LaggingIndexes
from dynalayer.testing.dynamodb.limits import Refused, check
from dynalayer.testing.dynamodb.messages import TARGET, Answer, Request
from dynalayer.testing.dynamodb.pages import BATCHES, PAGED, Pages
from dynalayer.testing.dynamodb.server import Headers, Server
from dynalayer.testing.dynamodb.service import Service, UnreachableError

__all__ = ["FaultyDynamoDB"]

_SKEW = 15 * 60  # seconds that a client's clock may differ
_CHANGES_TABLES = ("CreateTable", "DeleteTable", "UpdateTable")


class FaultyDynamoDB:
    """A proxy in front of a DynamoDB endpoint. It runs from its making until it is closed.

    Args:
        endpoint_url: The endpoint, such as DynamoDB Local's or moto's server.
        seed: The same requests in the same order meet the same faults.
        faults: What goes wrong, and how often.
        port: Of 127.0.0.1; 0 for any that is free.
        clock: Tells the moment in seconds since the epoch: items expire and indexes follow by it.
        signing_clock: Likewise; a request signed more than 15 minutes away from it is refused. Clients sign by the wall
            clock, so that a test that moves `clock` leaves this one alone.
        expire_every: Seconds between rounds that delete some of the items whose ttl has passed; 0 for none.

    Raises:
        ConfigurationError: The endpoint's URL is none.
        OSError: The port is taken.

    Attributes:
        url: What clients are given as the endpoint.
        seed: As given.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        seed: int = 0,
        faults: Faults = NO_FAULTS,
        port: int = 0,
        clock: Callable[[], float] = time.time,
        signing_clock: Callable[[], float] = time.time,
        expire_every: float = 0.0,
    ) -> None:
        self.seed = seed
        self._service = Service(endpoint_url)
        self._signing_clock = signing_clock
        self._faults = faults
        self._dice = Dice(seed)
        self._later = Later()
        self._indexes = LaggingIndexes(self._service, clock)
        self._pages = Pages(self._service, self._indexes, self._write, self._tell)
        order = random.Random(f"expiry {seed}")  # noqa: S311 -- it must repeat
        self._expiry = Expiry(self._service, clock, self._expire_one, order)
        self._lock = threading.Lock()
        self._told: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._closing = threading.Event()
        self._server = Server(port, self._answer, self._refused_connection)
        self.url = self._server.url
        if expire_every > 0:
            self._expiry.start(expire_every, lambda done: self._tell("expired", done))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, seed={self.seed})"

    @property
    def faults(self) -> Faults:
        """What goes wrong with requests that arrive from now on; may be set at any time."""
        return self._faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        # While there is no lag writes are not looked at: what was known of items before is worth nothing after.
        if 0 in (faults.index_lag, self._faults.index_lag):
            self._indexes.clear()
        self._faults = faults

    @property
    def told(self) -> dict[str, int]:
        """How often each thing happened.

        By the names of `Faults`; besides these: `limit` and `signature` (requests refused), `page_cut` (at 1 MB, or 16
        MB for a batch), `index_hidden` and `index_kept` (entries), `late_executed`, `late_discarded` (by `close`),
        `expired` (items), `unreachable` (the endpoint did not answer), `connection_refused` (too many).
        """
        with self._lock:
            return dict(self._told)

    @property
    def requests(self) -> dict[str, int]:
        """How many requests arrived, by operation."""
        with self._lock:
            return dict(self._requests)

    @contextmanager
    def quiet(self, timeout: float = 60.0) -> Iterator[None]:
        """A time in which nothing goes wrong: late requests are over, and indexes show everything.

        Raises:
            TimeoutError: Late requests were still to come after `timeout` seconds.
        """
        before, self.faults = self.faults, NO_FAULTS
        try:
            self.settle(timeout)
            yield
        finally:
            self.faults = before

    def settle(self, timeout: float = 60.0) -> None:
        """Wait until all late requests are executed.

        Raises:
            TimeoutError: Some were still to come after `timeout` seconds.
        """
        if not self._later.settle(timeout):
            raise TimeoutError(f"late requests were still to come after {timeout} s")

    def expire_some(self, limit: int | None = None) -> int:
        """Delete items whose ttl has passed by the clock, at most `limit`, in random order; returns how many.

        Of the tables that were asked for by this proxy, and as the service does: an item is never deleted before its
        ttl, nor one whose ttl is taken away or raised meanwhile, nor one whose ttl passed more than five years ago.

        Raises:
            UnreachableError: The endpoint did not answer.
        """
        done = self._expiry.expire(limit)
        self._tell("expired", done)
        return done

    def close(self) -> None:
        """Stop: late requests that are still to come are discarded, all connections closed. Twice is as once."""
        self._closing.set()
        self._expiry.close()
        self._tell("late_discarded", self._later.close())
        self._server.close()
        self._service.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, what: str, times: int = 1) -> None:
        if times:
            with self._lock:
                self._told[what] += times

    def _refused_connection(self) -> None:
        self._tell("connection_refused")

    def _answer(self, headers: Headers, raw: bytes) -> Answer | None:
        """What a request is answered; None where the connection is closed in place of an answer."""
        faults = self._faults
        plan = self._dice.plan(faults)
        try:
            request = _decoded(headers, raw)
        except Refused as refused:
            return refused.answer
        with self._lock:
            self._requests[request.operation] += 1
        self._service.remember_caller(request)
        return self._fateful(request, plan)

    def _fateful(self, request: Request, plan: Plan) -> Answer | None:
        fate, rng = plan.fate, plan.rng
        if fate is Fate.LATE_REQUEST and not self._later.add(
            rng.uniform(0, plan.faults.lateness), lambda: self._execute_late(request, plan)
        ):
            fate = Fate.LOST_REQUEST
        if fate is not None:
            self._tell(fate.value)
        match fate:
            case Fate.LOST_REQUEST | Fate.LATE_REQUEST:
                return None
            case Fate.THROTTLE:
                return throttled(request.operation, request.body, rng)
            case Fate.SERVER_ERROR:
                if rng.random() < 0.5:
                    self._execute(request, plan)
                return server_error()
            case Fate.LOST_ANSWER:
                self._execute(request, plan)
                return None
            case Fate.LATE_ANSWER:
                delay = rng.uniform(0, plan.faults.lateness)
                answer = self._execute(request, plan)
                return None if self._closing.wait(delay) else answer
        return self._execute(request, plan)

    def _execute_late(self, request: Request, plan: Plan) -> None:
        self._execute(request, plan)
        self._tell("late_executed")

    def _execute(self, request: Request, plan: Plan) -> Answer:
        try:
            return self._judged(request, plan)
        except UnreachableError as error:
            self._tell("unreachable")
            return Answer.error("com.amazon.coral.service#ServiceUnavailableException", str(error), status=503)
        except Exception as error:  # noqa: BLE001 -- the client is told; nobody else is there to be
            self._tell("broken")
            text = "".join(traceback.format_exception(error))
            return Answer.error("ProxyBrokenException", f"the proxy itself broke: {text}", status=400)

    def _judged(self, request: Request, plan: Plan) -> Answer:
        try:
            self._check_signature(request)
        except Refused as refused:
            self._tell("signature")
            return refused.answer
        try:
            check(request.operation, request.body, self._service.keys)
        except Refused as refused:
            self._tell("limit")
            return refused.answer
        if request.operation in PAGED:
            return self._pages.page(request, plan)
        if request.operation in BATCHES:
            return self._pages.batch(request, plan)
        answer = self._write(request, None, plan)
        if request.operation in _CHANGES_TABLES:
            self._service.forget(request.tables())
        return answer

    def _check_signature(self, request: Request) -> None:
        told = request.header("x-amz-date")
        if told is None:
            return
        now = self._signing_clock()
        try:
            signed = datetime.strptime(told, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            signed = 0.0
        if abs(now - signed) > _SKEW:
            late = signed < now
            moment, bound = (
                f"{datetime.fromtimestamp(each, UTC):%Y%m%dT%H%M%SZ}"
                for each in (now, now - _SKEW if late else now + _SKEW)
            )
            text = (
                f"Signature expired: {told} is now earlier than {bound} ({moment} - 15 min.)"
                if late
                else f"Signature not yet current: {told} is still later than {bound} ({moment} + 15 min.)"
            )
            raise Refused(text, kind="com.amazon.coral.service#InvalidSignatureException")

    def _write(self, request: Request, body: Mapping[str, Any] | None, plan: Plan) -> Answer:
        """Forward what may write."""
        longest = plan.faults.index_lag

        def execute() -> Answer:
            return self._service.forward(request, body)

        if longest == 0:
            return execute()
        asked = request.body if body is None else body
        return self._indexes.write(request.operation, asked, lambda: plan.rng.uniform(0, longest), execute)

    def _expire_one(self, table: str, body: dict[str, Any], rng: random.Random) -> Answer:
        longest = self._faults.index_lag

        def execute() -> Answer:
            return self._service.call("DeleteItem", table, **body)

        if longest == 0:
            return execute()
        named = {"TableName": table} | body
        return self._indexes.write("DeleteItem", named, lambda: rng.uniform(0, longest), execute)


def _decoded(headers: Headers, raw: bytes) -> Request:
    target = next((value for name, value in headers if name.lower() == "x-amz-target"), "")
    if not target.startswith(TARGET):
        # Streams, or something else that is not ours to judge.
        return Request(target, headers, raw, {})
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Refused(str(error), kind="com.amazon.coral.service#SerializationException") from error
    if not isinstance(body, dict):
        raise Refused("The body is no object", kind="com.amazon.coral.service#SerializationException")
    return Request(target.removeprefix(TARGET), headers, raw, body)
