"""Group commit: what several threads append to one partition at once goes in one record, in the order they came.

Where an append is a round trip, a partition takes one at a time. The first thread that comes appends at once; those
that come meanwhile wait, and the first of them then appends for all: no thread works for others longer than its own
append takes.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from dynalayer.errors import AppendError, ClosedError, LayerError, Outcome
from dynalayer.eventlog.base import Appended, Draft, EventLog
from dynalayer.events import Change, pack
from dynalayer.forking import renew_in_child

__all__ = ["Groups"]


@dataclass(frozen=True, slots=True)
class _Failed:
    outcome: Outcome
    cause: BaseException


@dataclass(slots=True, eq=False)
class _Entry:
    """One caller's draft for one partition.

    Attributes:
        draft: The draft, packed by itself.
        changes: What is in it.
        ready: Set when something happened to one of the caller's entries.
        sent: Whether it was its caller's turn, and the log was asked to append.
        left: Whether its caller was interrupted: nobody is there any more to take a turn.
        result: Where it came to stand, or why it did not.
    """

    draft: Draft
    changes: Sequence[Change]
    ready: threading.Event
    sent: bool = False
    left: bool = False
    result: Appended | _Failed | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """A partition that somebody is appending to.

    Attributes:
        holder: Whose caller's turn it is.
        batch: The entries that it appends, its own first.
        waiting: Those that came after them.
    """

    holder: _Entry
    batch: tuple[_Entry, ...]
    waiting: deque[_Entry]


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of one process, by partition."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    by_partition: dict[str, _Line] = field(default_factory=dict)


class Groups:
    """Appends for many threads.

    A caller may be interrupted anywhere: each step that others see is one assignment, and who leaves early makes
    good what it was in the middle of.

    Args:
        log: The event log; its `group_limit` bounds a group.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._inside: set[int] = set()
        self.renew()
        renew_in_child(self)

    def renew(self) -> None:
        """Begin with lines of one's own: the threads that others waited for are not in a forked child."""
        self._lines = _Lines()
        self._inside &= {threading.get_ident()}

    def append(self, drafts: Sequence[tuple[Draft, Sequence[Change]]]) -> tuple[Appended, ...]:
        """Append one caller's drafts, each in a record of its own or in a group's.

        Args:
            drafts: Of changes, each partition at most once, and what is in them.

        Raises:
            AppendError: As `EventLog.append`.
            ClosedError: Likewise; nothing of it was written.
        """
        me = threading.get_ident()
        if me in self._inside:
            # A signal's handler, or a finalizer, in the midst of an append: what this thread holds, and what it waits
            # for, waits for it.
            return self._log.append([draft for draft, _ in drafts])
        try:
            self._inside.add(me)
            return self._append_in_line(drafts)
        finally:
            self._inside.discard(me)

    def _append_in_line(self, drafts: Sequence[tuple[Draft, Sequence[Change]]]) -> tuple[Appended, ...]:
        lines, ready = self._lines, threading.Event()
        entries = [_Entry(draft, changes, ready) for draft, changes in drafts]
        try:
            _enter(lines, entries)
            while True:
                ready.clear()
                turns = _turns(lines, entries)
                if turns:
                    self._append(lines, turns)
                elif all(entry.result for entry in entries):
                    return _results(entries)
                else:
                    ready.wait()
        except (AppendError, ClosedError):
            raise
        except BaseException as error:
            self._leave(lines, entries, error)
            raise

    def _append(self, lines: _Lines, turns: Sequence[_Line]) -> None:
        """Append, one batch a partition, and let those behind have their turn."""
        results: dict[str, Appended | _Failed] = {}
        drafts = [_joined(line.batch) for line in turns]
        for line in turns:
            line.holder.sent = True
        try:
            for place in self._log.append(drafts):
                results[place.partition] = place
        except AppendError as error:
            results = {partition: _Failed(outcome, error) for partition, outcome in error.outcomes.items()}
        except ClosedError as error:
            results = {draft.partition: _Failed("not written", error) for draft in drafts}
        with lines.lock:
            for line in turns:
                _settle(line, results[line.holder.draft.partition])
                self._pass_on(lines, line.holder)

    def _pass_on(self, lines: _Lines, holder: _Entry) -> None:
        """Give the turn to the first who waits, for as many as go in one record; the lock is held."""
        partition = holder.draft.partition
        line = lines.by_partition.get(partition)
        if line is None:
            return
        if line.holder is not holder:
            line.holder.ready.set()  # passed on before; whoever did so may have been interrupted right then
            return
        waiting = [entry for entry in line.waiting if not entry.left]
        if not waiting:
            del lines.by_partition[partition]
            return
        count, size = 1, len(waiting[0].draft.payload)
        while count < len(waiting):
            size += len(waiting[count].draft.payload)
            if size > self._log.group_limit:
                break
            count += 1
        lines.by_partition[partition] = _Line(waiting[0], tuple(waiting[:count]), deque(waiting[count:]))
        waiting[0].ready.set()

    def _leave(self, lines: _Lines, entries: Sequence[_Entry], error: BaseException) -> None:
        """Leave the lines, without holding up who stands behind."""
        with lines.lock:
            for entry in entries:
                entry.left = True
                line = lines.by_partition.get(entry.draft.partition)
                if line is None:
                    continue
                if line.holder is entry and entry.sent:
                    _settle(line, _Failed("unknown", error))
                elif line.holder is entry:
                    back = deque((*line.batch[1:], *line.waiting))
                    lines.by_partition[entry.draft.partition] = _Line(entry, (entry,), back)
                self._pass_on(lines, entry)


def _enter(lines: _Lines, entries: Sequence[_Entry]) -> None:
    """Line up; where nobody is appending, it is this caller's turn at once."""
    with lines.lock:
        for entry in entries:
            line = lines.by_partition.get(entry.draft.partition)
            if line is None:
                lines.by_partition[entry.draft.partition] = _Line(entry, (entry,), deque())
            else:
                line.waiting.append(entry)


def _turns(lines: _Lines, entries: Sequence[_Entry]) -> list[_Line]:
    """The lines in which it is this caller's turn, to be served in one call of the log.

    Those in which it appends for itself alone go side by side. Where it appends for others too they go one by one: what
    is certain of one must not hang on another.
    """
    with lines.lock:
        there = [lines.by_partition.get(entry.draft.partition) for entry in entries if entry.result is None]
        held = [line for line in there if line is not None and line.holder in entries]
    return [line for line in held if len(line.batch) == 1] or held[:1]


def _settle(line: _Line, result: Appended | _Failed) -> None:
    """Tell all in a batch what came of it."""
    for entry in line.batch:
        entry.result = entry.result or result
        entry.ready.set()


def _joined(batch: Sequence[_Entry]) -> Draft:
    """One draft of several: their changes in order, the latest moment, the longest retention."""
    last = batch[-1].draft
    if len(batch) == 1:
        return last
    drafts = [entry.draft for entry in batch]
    return Draft(
        partition=last.partition,
        kind=last.kind,
        nonce=last.nonce,
        at=max(draft.at for draft in drafts),
        count=sum(draft.count for draft in drafts),
        retention=max(draft.retention for draft in drafts),
        payload=pack([change for entry in batch for change in entry.changes]),
    )


def _results(entries: Sequence[_Entry]) -> tuple[Appended, ...]:
    """Where they came to stand.

    Raises:
        AppendError: Not all is written.
        ClosedError: Nothing is, since the log was closed.
    """
    outcomes: dict[str, Outcome] = {
        entry.draft.partition: entry.result.outcome if isinstance(entry.result, _Failed) else "written"
        for entry in entries
    }
    for entry in entries:
        if isinstance(entry.result, _Failed):
            cause = entry.result.cause
            if isinstance(cause, ClosedError) and set(outcomes.values()) == {"not written"}:
                raise ClosedError(cause.message) from cause
            message = cause.message if isinstance(cause, LayerError) else _broken_off(cause)
            retryable = isinstance(cause, LayerError) and cause.retryable
            raise AppendError(
                message, outcomes=outcomes, retryable=retryable and set(outcomes.values()) == {"not written"}
            ) from cause
    return tuple(entry.result for entry in entries if isinstance(entry.result, Appended))


def _broken_off(cause: BaseException) -> str:
    """What is told to those whose changes another thread was appending.

    They do not look for themselves: what was sent and is not there may still arrive, so that only what is there could
    be told apart, at the cost of a read in each thread while the process, as a rule, is being ended.
    """
    told = f"{type(cause).__name__}: {cause}".removesuffix(": ")
    return (
        f"the thread that appended these changes with its own was broken off ({told}); see in history() whether they "
        "are there before setting them again"
    )
