"""The kit against a store that is in use, by its URL: under tables of its own, and with what it stored taken away."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import ParamSpec, TypeVar

from dynalayer.errors import ConfigurationError, LayerError
from dynalayer.hookspecs import Adapter
from dynalayer.opening import open_adapter
from dynalayer.segments import Segment
from dynalayer.testing.adapters import AdapterConformance
from dynalayer.testing.adapters.catalogue import ORIGIN
from dynalayer.testing.adapters.places import Place, Raw, RawFiles, RawFolder
from dynalayer.testing.adapters.running import Outcome, promises, tried
from dynalayer.wrapping import WrappedAdapter

__all__ = ["Live", "LiveConformance", "raw_files", "raw_folder"]

P = ParamSpec("P")
T = TypeVar("T")

raw_folder = RawFolder
raw_files = RawFiles.from_url


class LiveConformance(AdapterConformance):
    """The kit in sizes that a store far away answers in some minutes."""

    many = 40
    crash_points = ("before layer_setter", "after layer_setter", "after move_head", "before layer_getter")
    racers = 3
    rounds = 3


class _Within:
    """What of a store's contents has a table's name in its own: the rest is none of the kit's."""

    def __init__(self, raw: Raw, table: str) -> None:
        self._raw = raw
        self._table = table
        self.read = raw.read
        self.write = raw.write
        self.remove = raw.remove

    def names(self) -> Sequence[str]:
        return [name for name in self._raw.names() if self._table in name]


class _Noting(WrappedAdapter):
    """Notes each partition that something is stored in, and each ref; and leaves publishing out."""

    def __init__(self, inner: Adapter, table: str, stored: dict[tuple[str, str], set[str]]) -> None:
        super().__init__(inner)
        # What is published stands outside of the table: it could take the place of what somebody reads.
        self.capabilities = replace(inner.capabilities, publishing=False)
        self._table = table
        self._stored = stored

    def __repr__(self) -> str:
        return repr(self.inner)

    def through(self, method: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if method not in ("layer_setter", "layer_columns_setter"):
            return call(*args, **kwargs)
        refs = self._stored.setdefault((self._table, str(kwargs["partition"])), set())
        answer = call(*args, **kwargs)
        if isinstance(answer, str):
            refs.add(answer)
        return answer


class Live:
    """A run of the kit against the store that a URL names.

    Args:
        url: The URL, as a layer's `storage` has it.
        raw: The store's bytes, round the adapter; None where there is no access.

    Attributes:
        table: What the names of its tables begin with: random, so that nothing else is touched.
        left: What could not be taken away, in a line each.
    """

    def __init__(self, url: str, raw: Raw | None) -> None:
        self.table = f"conformance-{secrets.token_hex(6)}"
        self.left: list[str] = []
        self._url = url
        self._raw = raw
        self._stored: dict[tuple[str, str], set[str]] = {}

    def probe(self) -> Adapter:
        """The adapter, after one segment has gone there and back: so that a store out of reach is told once.

        Raises:
            LayerError: The URL is wrong, or the store cannot be reached.
        """
        place = self._place(f"{self.table}-probe")
        try:
            adapter = place.adapter()
            segment = Segment(place.table, "probe", ORIGIN, "base", 0, 1, {"one": {"id": "one"}})
            adapter.layer_getter("probe", adapter.layer_setter("probe", segment))
            if place.raw is not None and not place.raw.names():
                raise ConfigurationError(
                    "raw access shows nothing of what the adapter stored, by the table's name: it must lead to where "
                    "the adapter keeps its segments, or above that"
                )
            return adapter
        finally:
            place.close()
            self._tidy(place)

    def run(self) -> Iterator[Outcome]:
        """Test promise by promise, each under a table of its own; what it stored is taken away after each."""
        kit = LiveConformance()
        for number, test in enumerate(promises()):
            place = self._place(f"{self.table}-{number:03}x")
            try:
                outcome = tried(kit, test, place)
            finally:
                self._tidy(place)
            yield outcome

    def _place(self, table: str) -> Place:
        raw = None if self._raw is None else _Within(self._raw, table)
        return Place(open=self._opened, raw=raw, table=table)

    def _opened(self, table: str) -> Adapter:
        return _Noting(open_adapter(self._url, table), table, self._stored)

    def _tidy(self, place: Place) -> None:
        """Take away what was stored: by the adapter, and what is still there then, round it."""
        stored, self._stored = self._stored, {}
        for (table, partition), refs in stored.items():
            try:
                self._discard(table, partition, refs)
            except LayerError as error:
                self.left.append(f"table {table!r}, partition {partition!r:.80}: {error}")
        if place.raw is not None:
            for name in place.raw.names():
                place.raw.remove(name)

    def _discard(self, table: str, partition: str, refs: set[str]) -> None:
        adapter = open_adapter(self._url, table)
        try:
            if adapter.capabilities.listing:
                for ref in {*refs, *adapter.layer_list(partition=partition)}:
                    adapter.layer_discard(partition=partition, ref=ref)
            elif refs and self._raw is None:
                self.left.append(f"table {table!r}, partition {partition!r:.80}: the adapter cannot discard")
        finally:
            closed = getattr(adapter, "layer_closed", None)
            if closed is not None:
                closed()
