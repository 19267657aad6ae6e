"""Specs and settings: what a text or a table names is made as its class says, or refused without repeating a secret."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import math
import os.path
import tomllib
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, Optional, Union

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynalayer import URL, ConfigurationError, LayerError
from dynalayer.conversion import converted, imported, kind_of
from dynalayer.settings import Spec, nearest, settings_of
from strategies import texts

if TYPE_CHECKING:  # so that one annotation below cannot be evaluated
    from nowhere import Nothing  # type: ignore[import-not-found]

SECRET = "wJalrXUtnFEMI"  # noqa: S105 -- it is looked for in errors
Seconds = NewType("Seconds", float)
Kind = typing.TypeVar("Kind")


class Plain:
    """Any class, whose settings a test names."""


def convert(value: object, wanted: Any) -> object:
    return converted(value, wanted, "plugin 'x': setting")


def refusal(value: object, wanted: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        convert(value, wanted)
    assert str(caught.value).startswith("plugin 'x': setting")
    return str(caught.value)


def exactly(value: object) -> object:
    return type(value), value


# From texts and TOML values


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        (bool, "true", True),
        (bool, "YES", True),
        (bool, "on", True),
        (bool, "1", True),
        (bool, "False", False),
        (bool, "no", False),
        (bool, "off", False),
        (bool, "0", False),
        (bool, True, True),
        (bool, False, False),
        (int, "5", 5),
        (int, "-5", -5),
        (int, 5, 5),
        (int, 10**30, 10**30),
        (float, "5", 5.0),
        (float, "2.5", 2.5),
        (float, "1e3", 1000.0),
        (float, 5, 5.0),
        (float, 2.5, 2.5),
        (str, "", ""),
        (str, "5", "5"),
        (str, "none", "none"),
        (str, " a;b ", " a;b "),
        (Path, "a/b", Path("a/b")),
        (Path, "///a", Path("///a")),
        (Path, Path("a"), Path("a")),
        (type(None), None, None),
        (Literal["a", "b"], "b", "b"),
        (Literal[1, 2], 2, 2),
        (Literal[1, 2], "2", 2),
        (Literal["1", 1], "1", "1"),
        (Literal["1", 1], 1, 1),
        (Literal[True, "auto"], "true", True),
        (Literal[True, "auto"], "auto", "auto"),
        (Literal["a", None], None, None),
        (Literal["a", None], "none", None),
        (list[str], "a;b", ["a", "b"]),
        (list[str], "a; b ", ["a", "b"]),
        (list[str], "", []),
        (list[str], "a", ["a"]),
        (list[str], "a;", ["a", ""]),
        (list[str], ["a", " b "], ["a", " b "]),
        (list[int], "1;2", [1, 2]),
        (list[int], [1, "2"], [1, 2]),
        (list[Path], "a;b", [Path("a"), Path("b")]),
        (list[int | None], "1;none", [1, None]),
        (list, "a;b", ["a", "b"]),
        (list, [1, None, {}], [1, None, {}]),
        (Sequence[object], "count:1;age:2", ["count:1", "age:2"]),
        (Sequence[object], [{"use": "age"}, max], [{"use": "age"}, max]),
        (Iterable[int], "1;2", [1, 2]),
        (Collection[int], (1, 2), [1, 2]),
        (tuple[int, ...], "1;2;3", (1, 2, 3)),
        (tuple[int, str], "1;2", (1, "2")),
        (tuple, "1;2", ("1", "2")),
        (Callable[[], bytes], "os.path:join", os.path.join),
        (Callable, "os:path.join", os.path.join),
        (typing.Callable, "os.path:join", os.path.join),
        (Callable[..., Any], len, len),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (Mapping[str, int], {"a": 1}, {"a": 1}),
        (object, "5", "5"),
        (Any, 5, 5),
        (inspect.Parameter.empty, "5", "5"),
        (bytes, b"x", b"x"),
        (bytes, "5", "5"),  # its class judges
        (Kind, "5", "5"),
        ("int", "5", "5"),  # an annotation that could not be evaluated
        (Annotated[int, "a note"], "5", 5),
        (Seconds, "5", 5.0),
        (list[Seconds], "5", [5.0]),
    ],
)
def test_a_value_becomes_what_its_setting_is_annotated_as(wanted: Any, value: object, expected: object) -> None:
    assert exactly(convert(value, wanted)) == exactly(expected)


@pytest.mark.parametrize(
    ("wanted", "value", "expected"),
    [
        (int | None, "5", 5),
        (int | None, None, None),
        (int | None, "none", None),
        (Optional[int], "None", None),  # noqa: UP045 -- older code writes it so
        (Union[int, str], "5", 5),  # noqa: UP007 -- likewise
        (int | str, "five", "five"),
        (str | int, "5", 5),
        (str | int, 5, 5),
        (str | None, "none", "none"),
        (str | None, None, None),
        (bool | int, "true", True),
        (bool | int, 1, 1),
        (int | bool, True, True),
        (int | bool, "on", True),
        (int | float, "1", 1),
        (int | float, "1.5", 1.5),
        (int | float, 1, 1),
        (Literal["all"] | int, "all", "all"),
        (Literal["all"] | int, "5", 5),
        (str | Path, "a", Path("a")),
        (list[int] | None, "1;2", [1, 2]),
        (list[int] | str, "a;2", "a;2"),
        (list[int] | int, 5, 5),
        (dict[str, int] | str, "a", "a"),
        (dict[str, int] | str, {}, {}),
        (bytes | Callable[[], bytes], "os.path:join", os.path.join),
        (bytes | Callable[[], bytes], b"k", b"k"),
        (bytes | Callable[[], bytes] | None, "none", None),
        (str | Callable[[], str], "os.path:join", os.path.join),
        (str | Callable[[], str], "no function", "no function"),
        (str | Callable[[], str], "http://host:80", "http://host:80"),
        (Plain | int, "5", 5),
        (Plain | int, "five", "five"),
        (Annotated[int, 1] | None, "5", 5),
        (Seconds | None, "5", 5.0),
    ],
)
def test_of_a_union_the_first_is_taken_that_fits_and_text_after_all_others(
    wanted: Any, value: object, expected: object
) -> None:
    assert exactly(convert(value, wanted)) == exactly(expected)


@pytest.mark.parametrize(
    ("wanted", "told", "values"),
    [
        (bool, "is true or false, and was given", ["maybe", "", "2", 1, 0, 1.0, None, [], {}]),
        (int, "is a whole number, and was given", ["five", "", "1.0", "9" * 5000, "²", 1.0, True, None, [5], {"a": 5}]),
        (float, "is a number, and was given", ["five", "", "nan", "inf", "-inf", math.nan, math.inf, 10**400, True]),
        (str, "is a text, and was given", [5, 5.0, True, None, [], {}, b"x"]),
        (Path, "is a path, and was given", ["", "a\0b", "~nobody-of-this-name/x", "~\0", 5, None, []]),
        (Literal["a", "b"], "is 'a' or 'b', and was given", ["c", "", "A", 5, None, ["a"], True]),
        (Literal[1, 2], "is 1 or 2, and was given", ["3", "one", True, 1.0, None]),
        (list[int], "is a list, each a whole number, and was given", ["a", "1;b", [1, "b"], [[1]], 5, None, {}]),
        (list[int | None], "is a list, each a whole number or nothing, and was given", ["a"]),
        (list, "is a list, and was given", [5, None, {"a": 1}, True]),
        (tuple[int, str], "is a list, and was given", ["1", "1;2;3", "a;b", [1], 5]),
        (Callable[[], bytes], "is a function, named as 'module:attribute', and was given", ["x", "a b:c", ":", "", 5]),
        (dict[str, int], "is a table, and was given", ["a", 5, [], None]),
        (int | None, "is a whole number, and was given", ["five", 1.5, []]),
        (int | Literal["all"], "is a whole number or 'all', and was given", ["some", 1.5]),
        (int | list[int], "is a whole number or a list, each a whole number, and was given", ["x"]),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_would(wanted: Any, told: str, values: list[object]) -> None:
    for value in values:
        assert told in refusal(value, wanted)


def test_a_path_may_begin_with_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert convert("~/cache", Path) == Path("/home/ada/cache")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (SECRET, "a text"),
        ("", "an empty text"),
        ([SECRET], "a list"),
        ((SECRET,), "a list"),
        ({SECRET: SECRET}, "a table"),
        (SECRET.encode(), "a value of type bytes"),
        (10**5000, "a value of type int"),
        (5, "5"),
        (2.5, "2.5"),
        (True, "true"),
        (None, "nothing"),
    ],
    ids=range(11),
)
def test_of_a_value_that_may_be_a_secret_only_its_kind_is_shown(value: object, shown: str) -> None:
    assert kind_of(value) == shown


# Functions by name


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_module:key", "cannot import the module 'no_such_module': ModuleNotFoundError"),
        ("os.nothing:key", "cannot import the module 'os.nothing': ModuleNotFoundError"),
        ("os:nothing", "there is no 'nothing' in 'os': AttributeError"),
        ("os:path.nothing", "there is no 'path.nothing' in 'os': AttributeError"),
        ("os:sep", "names something that is no function"),
    ],
)
def test_a_function_that_cannot_be_found_is_told_with_its_cause(path: str, words: str) -> None:
    assert words in refusal(path, Callable[[], bytes])
    assert words in refusal(path, Callable[[], bytes] | str)


@pytest.mark.parametrize("source", ["1 / 0", "import sys; sys.exit(3)", "this is no Python"])
def test_a_module_that_breaks_when_it_is_imported_is_told_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    name = f"breaking_{tmp_path.name}".replace("[", "_").replace("]", "_")
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert f"cannot import the module '{name[:80]}" in refusal(f"{name}:key", Callable[[], bytes])


@pytest.mark.parametrize(
    "path", ["", ":", "os", "os:", ":path", "os:path:join", ".os:path", "os path:x", f"{SECRET}=="]
)
def test_what_is_no_module_and_attribute_is_not_repeated(path: str) -> None:
    with pytest.raises(
        ConfigurationError, match="is named as 'module:attribute', and was given another text"
    ) as caught:
        imported(path, what="key")
    assert SECRET not in str(caught.value)


# Specs


@pytest.mark.parametrize(
    ("given", "name", "location", "others"),
    [
        ("thread", "thread", "", {}),
        ("Thread", "thread", "", {}),
        ("count:100", "count", "100", {}),
        ("retry:5?longest=2", "retry", "5", {"longest": "2"}),
        ("retry?longest=2", "retry", "", {"longest": "2"}),
        ("retry:?longest=2&first=", "retry", "", {"longest": "2", "first": ""}),
        ("retry?where=a:b", "retry", "", {"where": "a:b"}),
        ("schedule:0 4 * * 1#5?zone=Europe/Berlin", "schedule", "0 4 * * 1#5", {"zone": "Europe/Berlin"}),
        ("all-of:count:1;age:2", "all-of", "count:1;age:2", {}),
        ("my_plugin:a_b", "my_plugin", "a_b", {}),
        ("parquet+s3://bucket/prefix?region=eu", "parquet", "//bucket/prefix", {"region": "eu"}),
        ("a:x%20y", "a", "x y", {}),
        ({"use": "thread"}, "thread", "", {}),
        ({"use": "retry", "attempts": 5, "on": [1]}, "retry", "", {"attempts": 5, "on": [1]}),
        ({"use": "retry:5?longest=2", "first": 1}, "retry", "5", {"longest": "2", "first": 1}),
    ],
)
def test_a_spec_is_a_name_its_first_setting_and_others(
    given: str | dict[str, object], name: str, location: str, others: dict[str, object]
) -> None:
    spec = Spec.parse(given, what="plugins")
    assert (spec.name, spec.url.location, spec.settings) == (name, location, others)


@pytest.mark.parametrize(
    "given", ["", ":", "5", "?", ":5", "?a=1", "my plugin", " thread", "thread ", "/a", "a/b", "_a", "é", "a\0", "-"]
)
def test_a_text_that_names_nothing_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"plugins: .*as in 'count:100'"):
        Spec.parse(given, what="plugins")


@pytest.mark.parametrize("given", [f"my plugin:{SECRET}", f"{SECRET}==", f" x?key={SECRET}", f":{SECRET}"])
def test_a_text_that_names_nothing_is_not_repeated_where_it_may_hold_a_setting(given: str) -> None:
    with pytest.raises(ConfigurationError, match="a text does not begin with a name") as caught:
        Spec.parse(given, what="plugins")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"attempts": 5}, {"use": 5}, {"use": None}, {"use": {"use": "a"}}, {"Use": "a"}])
def test_a_table_says_under_use_what_it_is_for(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="plugins: a table of settings says under 'use' what they are for"):
        Spec.parse(given, what="plugins")


@pytest.mark.parametrize("given", [5, None, ["a"], b"a", 1.5])
def test_what_is_neither_text_nor_table_is_no_spec(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="plugins: a name or a table of settings is wanted, not"):
        Spec.parse(given, what="plugins")


def test_a_setting_whose_name_is_no_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="retry is given a setting whose name is no text"):
        Spec.parse({"use": "retry", 5: SECRET}, what="plugins")  # type: ignore[dict-item] # that is the point


@pytest.mark.parametrize("given", [{"use": "retry?longest=2", "longest": SECRET}, f"retry?longest=2&longest={SECRET}"])
def test_a_setting_given_twice_is_refused_without_its_values(given: str | dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=r"'longest'") as caught:
        Spec.parse(given, what="plugins")
    assert "twice" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_spec_shows_none_of_its_settings() -> None:
    assert repr(Spec.parse({"use": f"x:{SECRET}", "key": SECRET}, what="plugins")) == "Spec('x')"


def test_a_spec_is_a_url_too_with_what_stands_beside_it_as_options() -> None:
    spec = Spec.parse({"use": "s3-json://b/p?region=eu", "publish": True, "parts": 5, "rate": 0.5}, what="storage")
    options = {"region": "eu", "publish": "true", "parts": "5", "rate": "0.5"}
    assert spec.as_url(what="storage") == URL("s3-json", "//b/p", options)
    assert Spec.parse({"use": "a:", "b": False}, what="storage").as_url(what="storage").options == {"b": "false"}


@pytest.mark.parametrize("value", [[SECRET], {"a": SECRET}, None, SECRET.encode()])
def test_what_no_url_can_say_is_refused_without_its_value(value: object) -> None:
    with pytest.raises(ConfigurationError, match="storage: s3-json: key is a text, a number, true or false") as caught:
        Spec.parse({"use": "s3-json://b", "key": value}, what="storage").as_url(what="storage")
    assert SECRET not in str(caught.value)


# What is made


@dataclasses.dataclass
class Retry:
    attempts: int
    longest: float | None = 60.0
    only: Literal["reads", "all"] = "all"
    where: list[str] = dataclasses.field(default_factory=list)


def make(factory: Callable[..., Any], given: str | Mapping[str, object], table: str | None = "users") -> Any:
    return Spec.parse(given, what="plugins").make(factory, what="plugin 'retry' of stranger 1.2", table=table)


def refused(factory: Callable[..., Any], given: str | Mapping[str, object]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        make(factory, given)
    assert str(caught.value).startswith("plugin 'retry' of stranger 1.2")
    return str(caught.value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("retry:5", Retry(5)),
        ("retry?attempts=5", Retry(5)),
        ("retry:5?longest=2&only=reads&where=a;b", Retry(5, 2.0, "reads", ["a", "b"])),
        ("retry:5?longest=none", Retry(5, None)),
        ({"use": "retry", "attempts": 5, "longest": 2}, Retry(5, 2.0)),
        ({"use": "retry:5", "where": ["a;b"]}, Retry(5, where=["a;b"])),
    ],
)
def test_settings_are_the_arguments_of_a_class(given: str | dict[str, object], expected: Retry) -> None:
    assert make(Retry, given) == expected


def test_a_table_of_a_toml_file_is_a_spec() -> None:
    table = tomllib.loads("use = 'retry'\nattempts = 5\nlongest = 2.5\nonly = 'reads'\nwhere = ['a', 'b']")
    assert make(Retry, table) == Retry(5, 2.5, "reads", ["a", "b"])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("retry:5?atempts=6", "has no setting 'atempts'; did you mean 'attempts'?"),
        ({"use": "retry:5", "Longest": 1}, "has no setting 'Longest'; did you mean 'longest'?"),
        ("retry:5?colour=red", "has no setting 'colour'; known: attempts, longest, only, where"),
        ("retry", "needs a setting 'attempts'"),
        ("retry:", "needs a setting 'attempts'"),
        ("retry?longest=2", "needs a setting 'attempts'"),
        ("retry:5?attempts=6", "is given its setting 'attempts' twice"),
        ({"use": "retry:5", "attempts": 6}, "is given its setting 'attempts' twice"),
        ("retry:many", ": attempts is a whole number, and was given a text"),
        ("retry:5?only=writes", ": only is 'reads' or 'all', and was given a text"),
        ({"use": "retry", "attempts": 2.5}, ": attempts is a whole number, and was given 2.5"),
        ("retry:5?table=users", "has no setting 'table'"),
        ({"use": "retry:5", "x" * 500: 1}, f"has no setting '{'x' * 99};"),
    ],
)
def test_wrong_settings_are_refused_by_name(given: str | dict[str, object], words: str) -> None:
    assert words in refused(Retry, given)


@pytest.mark.parametrize(
    "given",
    [
        f"retry:{SECRET}",
        f"retry:5?longest={SECRET}",
        f"retry:5?only={SECRET}",
        f"retry:5?nothing={SECRET}",
        f"retry:5?attempts={SECRET}",
        {"use": f"retry:{SECRET}", "attempts": 5},
        {"use": "retry:5", "longest": [SECRET]},
        {"use": "retry:5", "where": {"a": SECRET}},
        {"use": "retry:5", "where": [5, SECRET]},
        {"use": "retry:5", "nothing": SECRET},
    ],
    ids=range(10),
)
def test_no_value_of_a_setting_stands_in_an_error(given: str | dict[str, object]) -> None:
    assert SECRET not in refused(Retry, given)


class Keywords:
    def __init__(self, *, key: str = "") -> None:
        self.key = key


class Nothings:
    pass


class Positional:
    def __init__(self, first: int = 1, /, second: int = 2) -> None:
        self.both = first, second


class Tabled:
    def __init__(self, table: str, size: int = 1) -> None:
        self.both = table, size


class Anything:
    def __init__(self, size: int = 1, *rest: int, **others: float | str) -> None:
        self.size, self.rest, self.others = size, rest, others


class Inheriting(Tabled):
    pass


class Lazy:
    """One of its annotations is there for type checkers alone."""

    def __init__(self, size: int, nothing: Nothing | None = None, seconds: float = 1) -> None:
        self.all = size, nothing, seconds


class Made:
    size: int

    def __new__(cls, size: int) -> Made:
        made = super().__new__(cls)
        made.size = size
        return made


@pytest.mark.parametrize("factory", [Keywords, Nothings, Anything], ids=lambda each: each.__name__)
def test_what_follows_the_colon_needs_an_argument_by_position(factory: Callable[..., Any]) -> None:
    if factory is Anything:
        assert make(factory, "retry:5").size == 5
    else:
        message = refused(factory, f"retry:{SECRET}")
        assert "takes nothing after its name" in message
        assert SECRET not in message


def test_a_class_without_settings_is_made_without() -> None:
    assert isinstance(make(Nothings, "retry"), Nothings)
    assert "has no setting 'size'; known: none" in refused(Nothings, "retry?size=1")


def test_an_argument_by_keyword_alone_is_a_setting() -> None:
    assert make(Keywords, "retry?key=5").key == "5"


def test_an_argument_by_position_alone_is_none() -> None:
    assert make(Positional, "retry:5").both == (1, 5)
    assert "has no setting 'first'" in refused(Positional, "retry?first=5")


@pytest.mark.parametrize("factory", [Tabled, Inheriting], ids=lambda each: each.__name__)
def test_an_argument_table_is_given_the_layers_and_is_no_setting(factory: Callable[..., Any]) -> None:
    assert make(factory, "retry:5").both == ("users", 5)
    assert "has no setting 'table'; did" not in refused(factory, "retry?table=others")
    assert "has no setting 'table'" in refused(factory, {"use": "retry", "table": "others"})


def test_a_class_that_takes_any_keyword_takes_any_setting_as_annotated() -> None:
    made = make(Anything, "retry:5?rate=1.5&colour=red")
    assert (made.size, made.rest, made.others) == (5, (), {"rate": 1.5, "colour": "red"})
    assert ": colour is a number or a text, and was given a list" in refused(Anything, {"use": "x", "colour": [SECRET]})
    assert "has no setting 'table'" in refused(Anything, "retry?table=others")


def test_an_annotation_that_cannot_be_evaluated_keeps_no_other_from_being_converted() -> None:
    assert make(Lazy, "retry:5?nothing=7&seconds=2").all == (5, "7", 2.0)
    assert settings_of(Lazy)["nothing"].annotation == "Nothing | None"
    assert settings_of(Lazy)["size"].annotation is int


@pytest.mark.parametrize("annotation", ["1 / 0", "no python", "os.nothing", "print('x') or 5", "[int]", "'int'"])
def test_an_annotation_that_is_nonsense_is_none(annotation: str) -> None:
    class Odd:
        def __init__(self, size: Any) -> None:
            self.size = size

    Odd.__init__.__annotations__["size"] = annotation
    assert str(make(Odd, "retry:5").size) == "5"


def test_settings_may_be_those_of_new_and_of_a_class_written_in_c() -> None:
    assert make(Made, "retry:5").size == 5
    assert make(dict, "retry") == {}
    assert "has no setting 'size'; known: none" in refused(dict, "retry?size=5")
    assert settings_of(range) == {}


def test_settings_are_told_in_their_order_with_what_they_are() -> None:
    told = {name: (each.annotation, each.default) for name, each in settings_of(Retry).items()}
    assert list(told) == ["attempts", "longest", "only", "where"]
    assert told["attempts"] == (int, inspect.Parameter.empty)
    assert told["only"] == (Literal["reads", "all"], "all")
    assert list(settings_of(Tabled)) == ["size"]
    assert list(settings_of(Anything)) == ["size"]


def test_the_nearest_right_name_is_told_or_all_of_them() -> None:
    assert nearest("atempts", ["attempts", "longest"]) == "; did you mean 'attempts'?"
    assert nearest("x", ["b", "a"]) == "; known: a, b"
    assert nearest("x", []) == "; known: none"


# Whatever comes in

VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), texts(), st.binary(max_size=4), st.dates(), st.datetimes()
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
PIECES = st.sampled_from(["none", "true", "1", ";", ":", "os", ".", "~", "%", "?", "&", "=", "a", "/", "//", "\0", "@"])
KINDS = st.recursive(
    st.sampled_from(
        [
            bool,
            int,
            float,
            str,
            Path,
            type(None),
            object,
            Any,
            bytes,
            Plain,
            Callable[[], bytes],
            Literal["a", 1, True, None],
            dict[str, int],
            tuple[int, str],
            Seconds,
            list,
            "Nothing",
        ]
    ),
    lambda inner: st.one_of(
        inner.map(lambda kind: list[kind]),  # type: ignore[valid-type] # kinds are made as they come
        inner.map(lambda kind: tuple[kind, ...]),  # type: ignore[valid-type] # likewise
        st.tuples(inner, inner).map(lambda kinds: Union[kinds[0], kinds[1]]),  # noqa: UP007 -- texts among them know no |
    ),
    max_leaves=4,
)


@settings(max_examples=300)
@given(st.one_of(VALUES, st.lists(PIECES, max_size=6).map("".join)), KINDS)
def test_any_value_for_any_kind_is_converted_or_a_configuration_error(value: object, wanted: Any) -> None:
    with contextlib.suppress(ConfigurationError):
        convert(value, wanted)


@settings(max_examples=300)
@given(
    st.one_of(
        texts(),
        st.lists(st.one_of(PIECES, texts(max_size=3)), max_size=8).map(lambda pieces: f"retry{''.join(pieces)}"),
        st.dictionaries(texts(max_size=4), VALUES, max_size=3).map(lambda beside: {"use": "retry", **beside}),
        st.dictionaries(st.sampled_from(["attempts", "longest", "only", "where"]), VALUES).map(
            lambda beside: {"use": "retry", **beside}
        ),
    )
)
def test_any_spec_makes_what_it_names_or_is_a_layer_error(spec: str | dict[str, object]) -> None:
    try:
        made = make(Retry, spec)
    except LayerError:
        return
    assert (type(made.attempts), type(made.longest)) in [(int, float), (int, type(None))]
    assert made.only in ("reads", "all")
    assert all(type(each) is str for each in made.where)
