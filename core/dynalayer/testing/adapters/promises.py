"""What the parts of the kit share: what may be set, and how a promise that is not kept is told."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from dynalayer.errors import SegmentCorruptError, SegmentMissingError, StorageError
from dynalayer.hookspecs import Adapter
from dynalayer.segments import Segment, SegmentKind
from dynalayer.testing.adapters.catalogue import ORIGIN, difference
from dynalayer.testing.adapters.places import Place, Raw
from dynalayer.testing.faults import SYNC_POINTS
from dynalayer.values import Item

__all__ = [
    "DAMAGED",
    "MISSING",
    "Promises",
    "came_back",
    "comes_back",
    "need_columns",
    "need_deltas",
    "need_immutable",
    "need_listing",
    "need_raw",
    "refused",
    "segment",
    "stored_as",
]

MISSING = (SegmentMissingError,)
"""How a getter says that there is no such segment."""

DAMAGED = (SegmentCorruptError, SegmentMissingError)
"""How a getter says that what is there is not what was stored."""


class Promises:
    """Base of the kit's parts.

    Attributes:
        large_bytes: How large the large segment is.
        many: How many segments one partition gets.
        crash_points: Where a sync dies, each in turn.
        racers: Threads that work at once.
        rounds: How often each of them does.
    """

    large_bytes: int = 4 * 1024 * 1024
    many: int = 120
    crash_points: Sequence[str] = SYNC_POINTS
    racers: int = 4
    rounds: int = 6

    @pytest.fixture
    def place(self) -> Place:
        """A store of its own, empty, for one test."""
        raise NotImplementedError(f"{type(self).__name__} must override the fixture place, which gives a Place")

    @pytest.fixture(autouse=True)
    def _closed(self, place: Place) -> Iterator[None]:
        yield
        place.close()


def segment(
    place: Place,
    items: Mapping[str, Item] | None = None,
    *,
    partition: str = "eu",
    deleted: Sequence[str] | None = None,
    version: int = 1,
) -> Segment:
    """A base of some items; with identifiers deleted, none of them too, a delta."""
    kind: SegmentKind = "base" if deleted is None else "delta"
    return Segment(
        place.table,
        partition,
        ORIGIN,
        kind,
        0 if deleted is None else version - 1,
        version,
        {"one": {"id": "one", "value": secrets.token_hex(4)}} if items is None else dict(items),
        frozenset(deleted or ()),
    )


def came_back(adapter: Adapter, ref: str, expected: Segment, promise: str) -> None:
    """Check that a ref gives a segment exactly; else tell how it differs."""
    __tracebackhide__ = True
    try:
        found: object = adapter.layer_getter(partition=expected.partition, ref=ref)
    except StorageError as error:
        raise AssertionError(f"{promise}; the getter of {ref!r} raised {type(error).__name__}: {error}") from error
    differs = difference(found, expected)
    if differs:
        raise AssertionError(f"{promise}; of {ref!r}: {differs}")


def comes_back(adapter: Adapter, stored: Segment, promise: str) -> str:
    """Set a segment, and check that it is got exactly; its ref."""
    __tracebackhide__ = True
    try:
        ref = adapter.layer_setter(partition=stored.partition, segment=stored)
    except StorageError as error:
        raise AssertionError(f"{promise}; the setter raised {type(error).__name__}: {error}") from error
    came_back(adapter, ref, stored, promise)
    return ref


def refused(kinds: tuple[type[Exception], ...], call: Callable[[], object], promise: str) -> Exception:
    """Check that a call raises one of these errors, and return it; else tell what it did."""
    __tracebackhide__ = True
    names = " or ".join(kind.__name__ for kind in kinds)
    try:
        answer = call()
    except kinds as error:
        return error
    except Exception as error:
        raise AssertionError(f"{promise} ({names}); it raised {type(error).__name__}: {error}") from error
    raise AssertionError(f"{promise} ({names}); it answered {answer!r:.300}")


def need_deltas(adapter: Adapter) -> None:
    """Give no delta where none is declared."""
    if not adapter.capabilities.deltas:
        pytest.skip("capabilities say deltas=False")


def need_immutable(adapter: Adapter) -> None:
    """Test no promise about several segments of a partition where it has one mutable place."""
    if not adapter.capabilities.immutable:
        pytest.skip("capabilities say immutable=False")


def need_raw(place: Place) -> Raw:
    """The place's raw access; without, the promise is not tested."""
    if place.raw is None:
        pytest.skip("the place has no raw access to the store, and this damages what is stored")
    return place.raw


def need_listing(adapter: Adapter) -> None:
    """Test no promise about listing where it is not declared."""
    if not adapter.capabilities.listing:
        pytest.skip("capabilities say listing=False")


def need_columns(adapter: Adapter) -> Any:
    """The adapter, for what is read and written by columns; not tested where that is not declared."""
    if not adapter.capabilities.columns:
        pytest.skip("capabilities say columns=False")
    return adapter


def stored_as(raw: Raw, put: Callable[[], str]) -> tuple[str, tuple[str, ...]]:
    """What a put returned, and the names under which the store keeps what it put.

    New names are taken for it; in a store that keeps all in one, what it changed.
    """
    before = frozenset(raw.names())
    contents = {name: raw.read(name) for name in before} if len(before) <= _FEW else {}
    ref = put()
    names = tuple(name for name in raw.names() if name not in before)
    if not names:
        names = tuple(name for name in contents if raw.read(name) != contents[name])
    assert names, "raw access shows nothing new after a put: it must reach the bytes that the adapter stores"
    return ref, names


_FEW = 50  # contents that are compared: a store that keeps all in one has few
