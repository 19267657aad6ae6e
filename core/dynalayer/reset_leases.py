"""The lease of a reset: it keeps a second one from double work, and makes nothing right."""

from __future__ import annotations

import orjson

from dynalayer.clock import MICROSECONDS, Clock
from dynalayer.errors import EventLogError
from dynalayer.eventlog.base import MAX_LEASE, EventLog
from dynalayer.eventlog.checkpoints import Checkpoint, CheckpointMove
from dynalayer.logs import log_failure
from dynalayer.values import UNDECODABLE

__all__ = ["ResetLease"]

_SCOPE = "reset"
_TRIES = 8  # each loses only to one whose move came first


class ResetLease:
    """A lease for all partitions, or for one.

    Args:
        log: The layer's event log, which keeps it as a checkpoint.
        clock: Tells the moment.
        owner: Who holds it.
        lease: How long it lasts, in microseconds.
        partition: The partition; None: all.
    """

    def __init__(self, log: EventLog, clock: Clock, owner: str, lease: int, partition: str | None) -> None:
        self._log = log
        self._clock = clock
        self._owner = owner
        self._lease = lease
        self._name = _name(partition)
        self._until = 0

    def take(self) -> bool:
        """Take it; False while another's has not run out."""
        for _ in range(_TRIES):
            now = self._clock()
            found = self._log.checkpoint(_SCOPE, self._name)
            if self._anothers(found, now) or self._anothers(self._log.checkpoint(_SCOPE, _name(None)), now):
                return False
            if self._moved(found, now):
                return True
        return False

    def keep(self) -> bool:
        """Prolong it where half of it is over; False if it had run out, and another has taken it since."""
        now = self._clock()
        if self._until - now > self._lease // 2:
            return True
        found = self._log.checkpoint(_SCOPE, self._name)
        return found is not None and _told(found)[0] == self._owner and self._moved(found, now)

    def _moved(self, found: Checkpoint | None, now: int) -> bool:
        until = now + self._lease
        value = orjson.dumps({"owner": self._owner, "until": until})
        # Of a reset that died nothing stays behind for good, where the log lets rows expire.
        ttl = (until + MAX_LEASE) // MICROSECONDS + 1
        revision = 0 if found is None else found.revision
        if not self._log.move_checkpoint(CheckpointMove(_SCOPE, self._name, revision, value, ttl)):
            return False
        self._until = until
        return True

    def release(self) -> None:
        """Give it back; where that fails it runs out by itself."""
        try:
            found = self._log.checkpoint(_SCOPE, self._name)
            if found is not None and _told(found)[0] == self._owner:
                self._log.move_checkpoint(CheckpointMove(_SCOPE, self._name, found.revision, None))
        except EventLogError as error:
            text = "the lease of a reset could not be given back; it will run out by itself: %s"
            log_failure(text, error, error=error, table=self._log.table)

    def _anothers(self, found: Checkpoint | None, now: int) -> bool:
        if found is None:
            return False
        owner, until = _told(found)
        return owner != self._owner and 0 < until - now <= MAX_LEASE


def _name(partition: str | None) -> str:
    return "all" if partition is None else f"partition {partition}"


def _told(found: Checkpoint) -> tuple[str, int]:
    """Whose it is, and until when; nobody's where it says nothing that makes sense."""
    try:
        told = orjson.loads(found.value)
        return str(told["owner"]), int(told["until"])
    except UNDECODABLE:
        return "", 0
