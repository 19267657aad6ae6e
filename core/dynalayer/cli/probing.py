"""What `doctor` does to a store or an event log: a few small things, timed, each told as well or not."""

from __future__ import annotations

import secrets
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar, cast

from dynalayer.errors import LayerError, SegmentMissingError
from dynalayer.eventlog.base import MAX_REF_BYTES, EventLog
from dynalayer.hookspecs import Adapter
from dynalayer.opening import open_adapter
from dynalayer.segments import Segment, SegmentKind

if TYPE_CHECKING:  # they need pyarrow, which is an extra
    from dynalayer.columns import Columns

__all__ = ["Finding", "examine_log", "examine_store"]

T = TypeVar("T")

_TIMES = 5
_PARTITION = "probe"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, and how it was found.

    Attributes:
        subject: What.
        state: `"well"`, `"wrong"`, or `"not tried"`.
        told: How long it took, what is wrong, or why it was not tried.
    """

    subject: str
    state: str
    told: str = ""


class _WrongError(Exception):
    """Something is not as it should be; its text says what."""


@dataclass(slots=True)
class _Examination:
    """Collects findings; what needs something that was found wrong is not tried."""

    findings: list[Finding] = field(default_factory=list)
    broken: str = ""

    def look(self, subject: str, check: Callable[[], str]) -> None:
        """Make a check, which returns what is worth telling, and remember whether it could be made."""
        if self.broken:
            self.findings.append(Finding(subject, "not tried", f"{self.broken!r} is wrong"))
            return
        if not self.aside(subject, check):
            self.broken = subject

    def aside(self, subject: str, check: Callable[[], str]) -> bool:
        """As `look`, for what nothing else depends on; whether all was well."""
        try:
            self.findings.append(Finding(subject, "well", check()))
        except (_WrongError, LayerError) as error:
            self.findings.append(Finding(subject, "wrong", str(error)))
        except Exception as error:  # noqa: BLE001 -- whatever an adapter raises is what was found
            self.findings.append(Finding(subject, "wrong", f"{type(error).__name__}: {error}"))
        else:
            return True
        return False

    def leave(self, subject: str, why: str) -> None:
        """Say why something was not tried."""
        self.findings.append(Finding(subject, "not tried", why))


def examine_store(url: str, table: str) -> tuple[Finding, ...]:
    """Try a storage adapter's store out, and leave nothing behind.

    Args:
        url: The URL.
        table: The table under which it is done: one that nobody has.

    Raises:
        ConfigurationError: The URL is wrong.
        PluginError: There is no such adapter, or it does not fit.
    """
    adapters = [open_adapter(url, table)]
    examined = _Examination()
    probe = _Probe(table, adapters[0])
    try:
        examined.look("put", probe.puts)
        examined.look("get: the same comes back", probe.gets)
        examined.look("an older segment stays as it is", probe.stays)
        adapters.append(open_adapter(url, table))
        examined.look("another adapter object sees it", partial(probe.seen_by, adapters[-1]))
        _examine_abilities(examined, probe, adapters[0])
    finally:
        if not adapters[0].capabilities.listing:
            examined.leave("nothing is left behind", f"listing=False: {len(probe.stored)} small segments stay")
        elif probe.tried:
            examined.aside("nothing is left behind", probe.tidy)
        for adapter in adapters:
            closed = getattr(adapter, "layer_closed", None)
            if closed is not None:
                closed()
    return tuple(examined.findings)


def _examine_abilities(examined: _Examination, probe: _Probe, adapter: Adapter) -> None:
    """What is declared works."""
    abilities = adapter.capabilities
    for name, declared, check in (
        ("deltas", abilities.deltas, probe.keeps_deltas),
        ("columns", abilities.columns, probe.reads_columns),
        ("listing: at once, and nothing else", abilities.listing, probe.lists),
        ("discard: it is gone", abilities.listing, probe.discards),
    ):
        if declared:
            examined.look(name, check)
        else:
            examined.leave(name, "not declared")
    if abilities.publishing:
        examined.leave("publishing", "what is published stands outside of a table of the doctor's own")


class _Probe:
    """A few small segments under a table of their own.

    Args:
        table: The table.
        adapter: The adapter.

    Attributes:
        stored: Ref to segment.
        tried: Whether a put was tried: what failed may be there all the same.
    """

    def __init__(self, table: str, adapter: Adapter) -> None:
        self.stored: dict[str, Segment] = {}
        self.tried = False
        self._table = table
        self._adapter = adapter
        self._origin = secrets.token_hex(8)

    def _segment(self, number: int, kind: SegmentKind = "base") -> Segment:
        deleted = frozenset({"gone"} if kind == "delta" else ())
        items = {"one": {"id": "one", "number": number, "text": "größer 🎈", "bytes": secrets.token_bytes(64)}}
        start = number - 1 if kind == "delta" else 0
        return Segment(self._table, _PARTITION, self._origin, kind, start, number, items, deleted)

    def _put(self, segment: Segment) -> None:
        self.tried = True
        ref: object = self._adapter.layer_setter(partition=_PARTITION, segment=segment)
        if not isinstance(ref, str) or not 0 < len(ref.encode()) <= MAX_REF_BYTES:
            raise _WrongError(f"the setter returned no ref of 1 to {MAX_REF_BYTES} bytes, but {ref!r:.100}")
        self.stored[ref] = segment

    def _check(self, adapter: Adapter, ref: str) -> None:
        found: object = adapter.layer_getter(partition=_PARTITION, ref=ref)
        if found != self.stored[ref]:
            raise _WrongError(f"under {ref!r} was stored {self.stored[ref]!r:.200}, and is found {found!r:.200}")

    def puts(self) -> str:
        """Several segments are stored."""
        return _timed([partial(self._put, self._segment(number)) for number in range(1, _TIMES + 1)])

    def gets(self) -> str:
        """The newest comes back as it was, each time."""
        newest = list(self.stored)[-1]
        return _timed([partial(self._check, self._adapter, newest)] * _TIMES)

    def stays(self) -> str:
        """What was put before is there, and the same."""
        if not self._adapter.capabilities.immutable:
            return "not declared: one mutable place a partition"
        if len(self.stored) < _TIMES:
            raise _WrongError(f"{_TIMES} segments were put, under {len(self.stored)} refs")
        for ref in list(self.stored)[:-1]:
            self._check(self._adapter, ref)
        return ""

    def seen_by(self, adapter: Adapter) -> str:
        """An object that stored nothing finds what was stored."""
        self._check(adapter, list(self.stored)[-1])
        return ""

    def keeps_deltas(self) -> str:
        """A delta comes back with what it deletes."""
        self._put(self._segment(_TIMES + 1, "delta"))
        self._check(self._adapter, list(self.stored)[-1])
        return ""

    def reads_columns(self) -> str:
        """By columns it says the same."""
        from dynalayer.columns import segment_of  # noqa: PLC0415 -- needs pyarrow, which whoever has columns has

        ref, segment = list(self.stored.items())[-1]
        open_columns = cast("Callable[..., Columns]", getattr(self._adapter, "layer_columns"))  # noqa: B009 -- not every adapter has it
        columns = open_columns(partition=_PARTITION, ref=ref)
        found = segment_of(columns.header, columns.batches())
        if found != segment:
            raise _WrongError(f"{ref!r} by columns is {found!r:.200}, in place of {segment!r:.200}")
        return ""

    def lists(self) -> str:
        """All is listed at once."""
        return _timed([self._list] * _TIMES)

    def _list(self) -> None:
        refs: Sequence[str] = self._adapter.layer_list(partition=_PARTITION)
        if sorted(refs) != sorted(self.stored):
            raise _WrongError(f"{len(self.stored)} segments are stored, and {len(refs)} listed: {sorted(refs)!r:.300}")

    def discards(self) -> str:
        """What is discarded is gone from getter and listing; the rest stays."""
        refs = list(self.stored)[:-1]
        told = _timed([partial(self._discard, ref) for ref in refs])
        for ref in self.stored:
            self._check(self._adapter, ref)
        self._list()
        return told

    def _discard(self, ref: str) -> None:
        self._adapter.layer_discard(partition=_PARTITION, ref=ref)
        del self.stored[ref]
        try:
            self._adapter.layer_getter(partition=_PARTITION, ref=ref)
        except SegmentMissingError:
            return
        raise _WrongError(f"{ref!r} was discarded, and is still got")

    def tidy(self) -> str:
        """Discard what is left, known or listed."""
        listed: set[str] = set()
        with suppress(Exception):  # then what is known is discarded all the same, and the last listing tells
            listed = set(self._adapter.layer_list(partition=_PARTITION))
        for ref in {*self.stored, *listed}:
            self._adapter.layer_discard(partition=_PARTITION, ref=ref)
        left = self._adapter.layer_list(partition=_PARTITION)
        if left:
            raise _WrongError(f"table {self._table!r}, partition {_PARTITION!r} still has {sorted(left)!r:.300}")
        return ""


def examine_log(opening: Callable[[], EventLog]) -> tuple[Finding, ...]:
    """Look at an event log: it opens, as what it should be, and answers.

    Args:
        opening: Opens it; its layout is checked by that.
    """
    examined = _Examination()
    logs: list[EventLog] = []

    def opened() -> str:
        logs.append(opening())
        return f"{logs[0].location}, layout as it should be"

    examined.look("open", opened)
    try:
        examined.look("read a head", lambda: _timed([partial(logs[0].head, "")] * _TIMES))
        examined.look("count", lambda: _counts(logs[0]))
    finally:
        for log in logs:
            log.close()
    return tuple(examined.findings)


def _counts(log: EventLog) -> str:
    state = log.layer_state()
    pending = state.appended - state.folded
    return f"{len(log.partitions()):,} partitions, {state.appended:,} events, {pending:,} of them pending"


def _timed(calls: Sequence[Callable[[], T]]) -> str:
    """Make calls; how long the middle one of them took."""
    took = []
    for call in calls:
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return f"{statistics.median(took) * 1000:.1f} ms"
