"""How often, for how long, and at which intervals something is tried."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from dynalayer import may_pass

__all__ = ["Limits", "Tries"]

T = TypeVar("T")

logger = logging.getLogger("dynalayer.retry")

_LOOK = 0.05  # seconds between looks whether a wait has lost its sense


@dataclass(frozen=True, slots=True)
class Limits:
    """See `Retry` for what they are."""

    attempts: int
    seconds: float
    first: float
    longest: float


class Tries:
    """Makes calls, and makes those again whose failure may pass. May be used by many threads.

    Args:
        limits: How often and how long.

    Attributes:
        limits: Likewise.
        closed: Whether nothing is tried again any more.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.closed = False
        self._stop = stop_after_attempt(limits.attempts) | stop_before_delay(limits.seconds)
        # Drawn between nothing and a bound that doubles, so that callers who failed together do not return together.
        self._wait = wait_random_exponential(multiplier=limits.first, max=limits.longest)

    def call(self, what: str, call: Callable[[], T], *, unless: Callable[[], bool] = lambda: False) -> T:
        """The answer of a call.

        Args:
            what: Its name, for the log.
            call: Makes it.
            unless: Whether it must not be made again, asked after each failure.

        Raises:
            Exception: The last failure, as it was. A note tells how often it was tried, if more than once.
        """
        tried = _Tried(call, self)
        retrying = Retrying(
            retry=retry_if_exception(lambda error: not self.closed and may_pass(error) and not unless()),
            stop=self._stop,
            wait=self._wait,
            sleep=self._sleep,
            before_sleep=lambda state: _tell(what, state),
            reraise=True,
        )
        begun = time.monotonic()
        try:
            return retrying(tried)
        except Exception as error:
            if tried.times > 1:
                ended = "; the layer was closed" if self.closed else ""
                error.add_note(f"tried {tried.times} times within {time.monotonic() - begun:.1f} seconds{ended}")
            raise

    def _sleep(self, seconds: float) -> None:
        # By looks rather than by an event: a lock that another thread holds does not cross a fork.
        until = time.monotonic() + seconds
        while not self.closed and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK))


class _Tried(Generic[T]):
    """Makes a call and counts; when all is closed during a wait it fails as it did before."""

    def __init__(self, call: Callable[[], T], tries: Tries) -> None:
        self._call = call
        self._tries = tries
        self._failure: BaseException | None = None
        self.times = 0

    def __call__(self) -> T:
        failure, self._failure = self._failure, None
        if failure is not None and self._tries.closed:
            raise failure
        self.times += 1
        try:
            return self._call()
        except Exception as error:
            self._failure = error
            raise


def _tell(what: str, state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    logger.warning("%s failed, and is tried again in %.2f seconds: %s", what, state.upcoming_sleep, error)
