"""What observers may pass on of an error: a kind from a bounded set, and no words that may be an item's."""

from __future__ import annotations

import builtins

import pytest

import dynalayer
from dynalayer import (
    AppendError,
    ConflictError,
    ErrorFacts,
    InvalidValueError,
    LayerError,
    SegmentCorruptError,
    StorageError,
)


class StrangersError(StorageError):
    """Of a stranger's adapter."""


def test_every_error_of_ours_is_told_by_its_own_name() -> None:
    for name in dynalayer.__all__:
        error = getattr(dynalayer, name)
        if isinstance(error, type) and issubclass(error, LayerError):
            made = error.__new__(error)
            vars(made).update(vars(LayerError("as it is")))
            assert ErrorFacts.of(made).kind == name


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConflictError("moved"), "ConflictError"),
        (StrangersError("odd"), "StorageError"),
        (FileNotFoundError("gone"), "FileNotFoundError"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (type("StorageError", (RuntimeError,), {})("an impostor"), "RuntimeError"),
        (type("OSError", (Exception,), {})("another"), "Exception"),
        (type("Odd", (BaseException,), {})("odd"), "BaseException"),
    ],
)
def test_the_kind_is_the_nearest_class_that_everybody_knows(error: BaseException, kind: str) -> None:
    assert ErrorFacts.of(error).kind == kind


def test_there_are_no_more_kinds_than_ours_and_pythons() -> None:
    kinds = {ErrorFacts.of(type(f"Odd{n}", (RuntimeError,), {})()).kind for n in range(100)}
    assert kinds == {"RuntimeError"}
    assert all(hasattr(builtins, kind) for kind in kinds)


def test_the_message_is_told_without_operation_and_partition() -> None:
    error = StorageError("the disk is full", operation="sync", partition="eu", adapter="local", retryable=True)
    assert ErrorFacts.of(error) == ErrorFacts(
        "StorageError", "the disk is full", retryable=True, adapter="local", distribution=None
    )
    append = AppendError("not written", outcomes={"eu": "unknown"})
    assert ErrorFacts.of(append).message == "not written"


@pytest.mark.parametrize(
    "error",
    [
        InvalidValueError("text 'private' cannot be kept", path="a"),
        ValueError("private"),
        KeyError("private"),
        TypeError("private"),
        ZeroDivisionError("private"),
    ],
)
def test_a_message_that_may_quote_an_item_is_withheld_also_where_it_is_a_cause(error: Exception) -> None:
    assert ErrorFacts.of(error).message is None
    outer = SegmentCorruptError(f"it holds {error}")
    outer.__cause__ = middle = StorageError("between")
    middle.__cause__ = error
    assert ErrorFacts.of(outer).message is None
    error.__cause__ = outer  # a ring
    assert ErrorFacts.of(middle).message is None


def test_the_fields_are_those_that_are_known() -> None:
    assert ErrorFacts.of(ConflictError("moved", retryable=True)).fields() == {
        "error": "ConflictError",
        "message": "moved",
        "retryable": True,
    }
    named = StorageError("full", adapter="local", distribution="dynalayer 1")
    assert list(ErrorFacts.of(named).fields()) == ["error", "message", "retryable", "adapter", "distribution"]
