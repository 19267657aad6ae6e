"""Hypothesis strategies for the whole value domain, and a comparison that tells 1 from True and 1.50 from 1.5."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from dynalayer.events import Change
from dynalayer.testing.adapters.catalogue import exactly as exactly  # noqa: PLC0414 -- given on
from dynalayer.values import MAX_DIGITS, Item

TAGS = ("$decimal", "$int", "$bytes", "$set", "$dict", "$", "$other")

_LARGEST = 10**MAX_DIGITS - 1
_BOUNDARIES = [
    0,
    *(sign * (2**bits + step) for bits in (31, 32, 53, 63, 64) for step in (-1, 0, 1) for sign in (1, -1)),
]


def texts(max_size: int | None = None) -> st.SearchStrategy[str]:
    """Unicode text, empty and astral too, without lone surrogates."""
    return st.text(st.characters(exclude_categories=["Cs"]), max_size=max_size)


def ints() -> st.SearchStrategy[int]:
    """Whole numbers to 38 digits, among them the ones where 64 bits end."""
    return st.one_of(
        st.integers(-1000, 1000),
        st.integers(-_LARGEST, _LARGEST),
        st.sampled_from([*_BOUNDARIES, _LARGEST, -_LARGEST]),
    )


def floats() -> st.SearchStrategy[float]:
    """Every finite float, -0.0 among them."""
    return st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0, 1.0, 1e16, 5e-324]))


@st.composite
def decimals(draw: st.DrawFn) -> Decimal:
    """Decimals of 1 to 38 digits, trailing zeros included, as large and as small as the domain has them."""
    digits = draw(st.lists(st.integers(0, 9), min_size=1, max_size=MAX_DIGITS))
    # The constructor drops leading zeros; the size is counted in what is left.
    length = len(str(int("".join(map(str, digits)))))
    exponent = draw(st.one_of(st.integers(-6, 6), st.integers(-130, 125)).map(lambda adjusted: adjusted - length + 1))
    return Decimal((draw(st.integers(0, 1)), tuple(digits), exponent))


def sets() -> st.SearchStrategy[set[Any]]:
    """The three set types; those of numbers mix int, float and Decimal."""
    numbers: st.SearchStrategy[Any] = st.one_of(ints(), floats(), decimals())
    return st.one_of(
        st.sets(texts(), max_size=5),
        st.sets(st.binary(max_size=8), max_size=5),
        st.sets(numbers, max_size=5),
    )


def keys() -> st.SearchStrategy[str]:
    """Attribute names: any text, often one that looks like a tag of the stored form."""
    return st.one_of(texts(max_size=8), st.sampled_from(TAGS))


def plain_values() -> st.SearchStrategy[Any]:
    """Values without others inside."""
    return st.one_of(
        st.none(), st.booleans(), ints(), floats(), decimals(), texts(max_size=20), st.binary(max_size=20), sets()
    )


def values() -> st.SearchStrategy[Any]:
    """Every value that an attribute may have."""
    return st.recursive(
        plain_values(),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys(), inner, max_size=4)),
        max_leaves=12,
    )


def items() -> st.SearchStrategy[Item]:
    """Items, the empty one too."""
    return st.dictionaries(keys(), values(), max_size=5)


def identifiers() -> st.SearchStrategy[str]:
    """Identifiers, few enough that they meet again."""
    return st.one_of(st.sampled_from(["a", "b", "c", "d"]), texts(max_size=6).filter(bool))


def changes() -> st.SearchStrategy[Change]:
    """Changes of a partition."""
    small = st.dictionaries(keys(), values(), max_size=2)
    return st.builds(Change, st.sampled_from(("PUT", "UPDATE", "DELETE")), identifiers(), small)


def small_changes() -> st.SearchStrategy[Change]:
    """Changes whose items are small, for long runs of them."""
    tiny = st.dictionaries(st.sampled_from(["x", "y"]), st.integers(0, 9), max_size=2)
    return st.builds(Change, st.sampled_from(("PUT", "UPDATE", "DELETE")), identifiers(), tiny)


def json_values() -> st.SearchStrategy[Any]:
    """Anything that JSON can say, with tags of the stored form where they do and do not belong."""
    plain: st.SearchStrategy[Any] = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        floats(),
        texts(max_size=10),
        st.sampled_from(["1.5", "NaN", "1E+999", "-0", "9" * 39, "aGk=", "aGk", "1_0"]),
    )
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(keys(), inner, max_size=3),
            st.dictionaries(st.sampled_from(TAGS), inner, min_size=1, max_size=1),
        ),
        max_leaves=15,
    )


def nested(depth: int, leaf: Any = 1) -> Item:
    """An item with that many containers in one another inside it, lists and dicts in turn."""
    value = leaf
    for level in range(depth):
        value = [value] if level % 2 else {"in": value}
    return {"top": value}


def label(value: Any) -> str:
    """A short name for a parametrized value, the same in every process (the order of a set is not)."""
    shown = f"set of {sorted(map(repr, value))}" if type(value) is set else repr(value)
    return ascii(shown)[1:-1][:50]
