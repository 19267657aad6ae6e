"""Who is at work: threads that must be let finish before what they work with is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dynalayer.forking import renew_in_child

__all__ = ["Running"]


class Running:
    """The threads of this process that are at work; a forked child has but the one that forked."""

    def __init__(self) -> None:
        self._threads: set[int] = set()
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Forget the threads of the parent."""
        self._changed = threading.Condition()
        self._threads &= {threading.get_ident()}

    @contextmanager
    def working(self) -> Iterator[None]:
        """This thread is at work inside; it may be so already."""
        me = threading.get_ident()
        with self._changed:
            nested = me in self._threads
            self._threads.add(me)
        try:
            yield
        finally:
            if not nested:
                with self._changed:
                    self._threads.discard(me)
                    self._changed.notify_all()

    def wait_for_others(self) -> None:
        """Wait until no other thread is at work."""
        with self._changed:
            self._changed.wait_for(lambda: self._threads <= {threading.get_ident()})
