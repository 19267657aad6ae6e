"""What does not cross a fork: a lock that another thread held, and what else was of threads that the child has not."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Protocol

__all__ = ["Lock", "renew_in_child"]


class Renewable(Protocol):
    """What begins anew in a forked child."""

    def renew(self) -> None:
        """Forget the threads of the parent."""


_owners: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_child(owner: Renewable) -> None:
    """Call an object's `renew` in each process that is forked, as long as the object lives."""
    _owners.add(owner)


def _renew_all() -> None:
    for owner in _owners:
        owner.renew()


os.register_at_fork(after_in_child=_renew_all)


class Lock:
    """A lock for a few steps in memory, free in a forked child whoever held it in the parent.

    What it guards must therefore be of use after each of the steps. The thread that holds it may take it again: a
    signal's handler, or a finalizer, comes in the midst of anything.
    """

    def __init__(self) -> None:
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Be free."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
