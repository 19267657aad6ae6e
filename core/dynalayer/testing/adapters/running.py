"""The kit without pytest's machinery: promise by promise, each on a place of its own, with what came of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pytest

from dynalayer.testing.adapters import AdapterConformance
from dynalayer.testing.adapters.places import Place

__all__ = ["Outcome", "promises", "run", "tried"]

_PREFIX = "test_"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a promise.

    Attributes:
        test: The name of its test.
        result: `"passed"`, `"failed"` or `"not tested"`.
        reason: Why it failed or was not tested; else empty.
    """

    test: str
    result: Literal["passed", "failed", "not tested"]
    reason: str = ""

    @property
    def promise(self) -> str:
        """The promise, as a sentence."""
        return self.test.removeprefix(_PREFIX).replace("_", " ")


def promises(kit: type[AdapterConformance] = AdapterConformance) -> tuple[str, ...]:
    """The names of a kit's tests, in the order of its parts."""
    found: dict[str, None] = {}
    for part in kit.__mro__:
        for name, member in vars(part).items():
            if name.startswith(_PREFIX) and inspect.isfunction(member):
                found.setdefault(name)
    return tuple(found)


def tried(kit: AdapterConformance, test: str, place: Place) -> Outcome:
    """Test one promise, and close what was opened for it."""
    try:
        getattr(kit, test)(place)
    except pytest.skip.Exception as skipped:
        return Outcome(test, "not tested", str(skipped.msg))
    except AssertionError as error:
        return Outcome(test, "failed", str(error))
    except Exception as error:  # noqa: BLE001 -- whatever an adapter raises is what came of it
        return Outcome(test, "failed", f"{type(error).__name__}: {error}")
    finally:
        place.close()
    return Outcome(test, "passed")


def run(kit: AdapterConformance, make_place: Callable[[], Place]) -> Iterator[Outcome]:
    """Test every promise, each on a new place.

    Args:
        kit: The kit.
        make_place: Makes a place that is empty.
    """
    for test in promises(type(kit)):
        yield tried(kit, test, make_place())
