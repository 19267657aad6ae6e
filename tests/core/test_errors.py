"""The error tree, and what each error tells."""

from __future__ import annotations

import copy
import inspect
import pickle
import re

import pytest

import dynalayer
from dynalayer import (
    AppendError,
    BatchError,
    ConfigurationError,
    InvalidEventError,
    InvalidInputError,
    InvalidValueError,
    LayerError,
    PluginNotFoundError,
    PositionExpiredError,
    StorageError,
    TransactionError,
    TransactionReason,
    errors,
)

CLASSES = [thing for thing in vars(errors).values() if inspect.isclass(thing) and issubclass(thing, Exception)]


def made(kind: type[LayerError]) -> LayerError:
    """One error of a class, with every fact it takes."""
    if issubclass(kind, AppendError):
        return kind("broken", outcomes={"a": "written", "b": "unknown"}, retryable=True)
    if issubclass(kind, TransactionError):
        return kind("broken", reasons=[TransactionReason("users", {"id": "1"}, "Code", "why", {"id": "1"})])
    if issubclass(kind, PositionExpiredError):
        return kind("broken", consumer="index", first=3, last=5, partition="eu")
    if issubclass(kind, BatchError):
        return kind("broken", written=[{"id": "1"}], not_written=[{"id": "2"}], unknown=[], retryable=True)
    if issubclass(kind, InvalidValueError):
        return kind("broken", path="a.b[2]", index=3)
    if issubclass(kind, InvalidEventError):
        return kind("broken", index=3)
    return kind("broken", operation="get", partition="eu", adapter="local", distribution="x 1.0", retryable=True)


def drawn() -> dict[str, str]:
    """The tree in the module's docstring: each class and its parent there."""
    parents: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getdoc(errors).splitlines():  # type: ignore[union-attr] # without one the test fails, as it should
        match = re.match(r"\s*(?P<branch>(?:[│├└─ ]{4})*)(?P<name>[A-Z]\w+Error)\b", line)
        if match is None:
            continue
        depth = len(match["branch"]) // 4
        del above[depth:]
        parents[match["name"]] = above[-1] if above else "Exception"
        above.append(match["name"])
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    real = {
        kind.__name__: next(base.__name__ for base in kind.__bases__ if base is Exception or base in CLASSES)
        for kind in CLASSES
    }
    assert drawn() == real


def test_each_line_of_the_drawn_tree_says_what_the_error_means() -> None:
    for name in set(drawn()) - {"LayerError"}:
        assert re.search(rf"{name} +\S", errors.__doc__ or ""), name


def test_every_error_is_a_layer_error_and_public() -> None:
    for kind in CLASSES:
        assert issubclass(kind, LayerError)
        assert getattr(dynalayer, kind.__name__) is kind
        assert kind.__name__ in dynalayer.__all__
        assert kind.__name__ in errors.__all__


def test_only_input_errors_are_value_errors() -> None:
    for kind in CLASSES:
        assert issubclass(kind, ValueError) == issubclass(kind, InvalidInputError)


def test_an_error_without_context_is_its_message() -> None:
    assert str(LayerError("broken")) == "broken"


def test_an_errors_text_shows_all_that_is_known() -> None:
    error = StorageError(
        "broken", operation="get", partition="eu", adapter="local", distribution="dynalayer 1.0", retryable=True
    )
    assert str(error) == (
        "broken (operation: get; partition: 'eu'; adapter: local from dynalayer 1.0; trying again can help)"
    )


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"operation": "sync"}, "broken (operation: sync)"),
        ({"partition": ""}, "broken (partition: '')"),
        ({"partition": "a\nb"}, "broken (partition: 'a\\nb')"),
        ({"adapter": "local"}, "broken (adapter: local)"),
        ({"distribution": "x 1.0"}, "broken"),
        ({"retryable": True}, "broken (trying again can help)"),
    ],
)
def test_an_errors_text_shows_each_fact_alone(facts: dict[str, object], text: str) -> None:
    assert str(LayerError("broken", **facts)) == text  # type: ignore[arg-type] # the facts are of several types


def test_the_message_stays_without_its_context() -> None:
    error = LayerError("broken", operation="get")
    assert error.message == "broken"
    assert error.args == ("broken",)


def test_an_error_that_says_nothing_about_trying_again_is_not_worth_it() -> None:
    assert LayerError("broken").retryable is False
    assert AppendError("broken", outcomes={}).retryable is False


def test_within_fills_in_what_is_not_known() -> None:
    error = LayerError("broken").within(operation="get", partition="eu", adapter="local", distribution="x 1.0")
    assert (error.operation, error.partition) == ("get", "eu")
    assert (error.adapter, error.distribution) == ("local", "x 1.0")


def test_within_keeps_what_is_known() -> None:
    known = LayerError("broken", operation="sync", partition="", adapter="local", distribution="x 1.0")
    known.within(operation="get", partition="eu", adapter="other", distribution="y 2.0")
    assert (known.operation, known.partition) == ("sync", "")
    assert (known.adapter, known.distribution) == ("local", "x 1.0")


def test_within_without_facts_changes_nothing() -> None:
    error = LayerError("broken", operation="get", partition="eu")
    before = str(error)
    assert str(error.within()) == before


def test_within_returns_the_same_error() -> None:
    error = PluginNotFoundError("broken")
    assert error.within(operation="get") is error


def test_within_names_no_distribution_of_another_adapter() -> None:
    error = StorageError("broken", adapter="inner").within(adapter="outer", distribution="outer-dist 2.0")
    assert "inner from outer-dist" not in str(error)


def test_an_append_error_tells_each_partitions_outcome() -> None:
    error = AppendError("broken", outcomes={"eu": "written", "": "not written", "us": "unknown"})
    assert error.outcomes == {"eu": "written", "": "not written", "us": "unknown"}
    assert error.operation == "set"
    assert str(error) == "broken (operation: set) ['eu': written, '': not written, 'us': unknown]"


def test_an_input_error_tells_index_and_path() -> None:
    error = InvalidValueError("broken", path="a.b[2]", index=3)
    assert (error.path, error.index) == ("a.b[2]", 3)
    assert InvalidEventError("broken").index is None


def test_a_configuration_error_can_be_caught_as_a_value_error() -> None:
    with pytest.raises(ValueError, match="broken"):
        raise ConfigurationError("broken")


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_crosses_to_another_process_whole(kind: type[LayerError]) -> None:
    error = made(kind).within(partition="eu")
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 -- pickled one line above
        assert type(back) is kind
        assert str(back) == str(error)
        assert vars(back) == vars(error)


def test_there_are_few_error_types() -> None:
    assert len(CLASSES) <= 24  # most callers know three: what is wrong with the input, the log, the storage
