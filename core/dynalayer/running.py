"""Who is at work: threads that must be let finish before what they work with is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dynalayer.errors import ClosedError
from dynalayer.forking import renew_in_child

__all__ = ["Running"]


class Running:
    """The threads of this process that are at work; a forked child has but the one that forked."""

    def __init__(self) -> None:
        self._threads: set[int] = set()
        self._ended = False
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Forget the threads of the parent."""
        self._changed = threading.Condition()
        self._threads &= {threading.get_ident()}

    @contextmanager
    def working(self) -> Iterator[None]:
        """This thread is at work inside; it may be so already.

        Raises:
            ClosedError: No more begins.
        """
        me = threading.get_ident()
        with self._changed:
            nested = me in self._threads
            if self._ended and not nested:
                raise ClosedError("the layer was closed before this began")
            self._threads.add(me)
        try:
            yield
        finally:
            if not nested:
                with self._changed:
                    self._threads.discard(me)
                    self._changed.notify_all()

    def end(self) -> None:
        """Wait until no other thread is at work; from then on none begins."""
        with self._changed:
            self._changed.wait_for(lambda: self._threads <= {threading.get_ident()})
            self._ended = True
