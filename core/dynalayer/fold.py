"""The fold: how changes become items. Within a partition the last change of an id wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dynalayer.events import Change
from dynalayer.segments import Segment
from dynalayer.values import Item

__all__ = ["NetChanges", "apply_changes", "apply_segment"]


def apply_changes(items: dict[str, Item], changes: Iterable[Change]) -> None:
    """Fold changes, in order, into items, in place: PUT and UPDATE set the whole item, DELETE removes it."""
    for change in changes:
        if change.type == "DELETE":
            items.pop(change.id, None)
        else:
            items[change.id] = change.item


def apply_segment(items: dict[str, Item], segment: Segment) -> None:
    """Fold a delta into items, in place."""
    items.update(segment.items)
    for identifier in segment.deleted:
        items.pop(identifier, None)


@dataclass(slots=True)
class NetChanges:
    """What a run of changes comes to: for each id its last item, or that it is gone.

    A deletion is kept even where the id was set within the same run: the item may stand in what lies below.
    """

    items: dict[str, Item] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)

    def add_changes(self, changes: Iterable[Change]) -> None:
        """Fold in later changes."""
        for change in changes:
            if change.type == "DELETE":
                self._remove(change.id)
            else:
                self._put(change.id, change.item)

    def add_segment(self, segment: Segment) -> None:
        """Fold in a later delta."""
        for identifier, item in segment.items.items():
            self._put(identifier, item)
        for identifier in segment.deleted:
            self._remove(identifier)

    def _put(self, identifier: str, item: Item) -> None:
        self.items[identifier] = item
        self.deleted.discard(identifier)

    def _remove(self, identifier: str) -> None:
        self.items.pop(identifier, None)
        self.deleted.add(identifier)
