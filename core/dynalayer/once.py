"""What is made when it is first asked for, and once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Generic, TypeVar

from dynalayer.forking import Lock, renew_in_child

__all__ = ["Once"]

T = TypeVar("T")


class Once(Generic[T]):
    """Makes something for many threads. Of those that come first one makes it, and the others wait.

    What the making fails with is raised for all who waited for it; who comes later tries again.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: Future[T] | None = None
        renew_in_child(self)

    def renew(self) -> None:
        """Forget what another thread of the parent was making."""
        if self._made is not None and not self._made.done():
            self._made = None

    @property
    def made(self) -> T | None:
        """It, if it is there."""
        made = self._made
        return made.result() if made is not None and made.done() and made.exception() is None else None

    def get(self) -> T:
        """It, made if need be.

        Raises:
            BaseException: What the making raised.
        """
        with self._lock:
            made, mine = self._made, self._made is None
            if made is None:
                made = self._made = Future()
        if mine:
            try:
                made.set_result(self._make())
            except BaseException as error:  # noqa: BLE001 -- raised below, here and where others wait
                self._made = None
                made.set_exception(error)
        return made.result()
