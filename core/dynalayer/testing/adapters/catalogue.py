"""What the kit stores: values of every kind, identifiers and names that a careless escaping could confuse."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from dynalayer.names import safe_name
from dynalayer.segments import Segment
from dynalayer.values import MAX_DEPTH, Item

__all__ = ["ODD_ATTRIBUTES", "ODD_IDS", "ODD_NAMES", "ORIGIN", "VALUES", "difference", "exactly", "nested"]

ORIGIN = "c04f02a7ce000000"
"""The event log whose layer wrote the kit's own segments."""

ODD_NAMES = (
    "",
    " ",
    ".",
    "..",
    "...",
    "../..",
    "/",
    "//",
    "/etc/passwd",
    "a/b",
    "a//b",
    "a\\b",
    "a%2fb",
    "a%2Fb",
    "%2f",
    "%252f",
    "%",
    "%%",
    "%2e",
    "%2e.",
    "~",
    "~empty",
    "%7eempty",
    "empty",
    "a",
    "A",
    "aA",
    "Aa",
    "a.",
    "a..",
    "a ",
    "a  ",
    ".a",
    "-",
    "-rf",
    "con",
    "nul\0l",
    "new\nline",
    "tab\t",
    "é",  # composed
    "e\u0301",  # the same, decomposed
    "ß",
    "SS",
    "İ",
    "日本語",
    "\U0001f600",
    "a.segment",
    "a.segment.part",
    "x" * 200,
    "x" * 201,
    "x" * 512,
    "x" * 511 + "y",
    "é" * 256,
    "é" * 255,
    "/" * 512,
    safe_name("x" * 512),
    safe_name("/" * 512),
)
"""Partition names that every adapter must keep, and keep apart."""

ODD_IDS = (
    *(
        " ",
        "0",
        "00",
        "1",
        "1.0",
        "a",
        "A",
        "a ",
        "a\n",
        "a\tb",
        "nul\0l",
        '"',
        "'",
        "\\",
        "/",
        "..",
        "%",
        "%41",
        "$id",
    ),
    *("null", "true", "é", "e\u0301", "ß", "日本語", "\U0001f600", "\u2028", "\ufeff", "x" * 1000, "é" * 1000),
)
"""Identifiers that must come back as they are."""

ODD_ATTRIBUTES = (
    *("", " ", ".", "a.b", "a b", "a/b", 'a"b', "a'b", "a\\b", "a\nb", "nul\0l", "id", "ID", "$", "$id", "$item"),
    *("$set", "$bytes", "$decimal", "$int", "$dict", "é", "e\u0301", "日本語", "\U0001f600", "x" * 300, "0", "deleted"),
)
"""Attribute names that must come back as they are."""

VALUES: dict[str, Any] = {
    "none": None,
    "true": True,
    "false": False,
    **{f"int {number}": number for number in (0, 1, -1)},
    **{
        f"int {sign}2**{bits}{step:+}": int(f"{sign}1") * 2**bits + step
        for bits in (31, 53, 63, 64)
        for sign in ("", "-")
        for step in (-1, 0, 1)
    },
    "int of 38 digits": 10**38 - 1,
    "int of 38 digits, negative": -(10**38) + 1,
    **{f"float {number!r}": number for number in (0.0, -0.0, 1.0, -1.5, 0.1, 1e16, 1e300, -1e300, 5e-324, 2.0**63)},
    **{
        f"decimal {text}": Decimal(text)
        for text in ("1.5", "1.50", "-0.10", "0.1", "1E-130", "3." + "1" * 37, "12345678901234567890.5")
    },
    **{f"text {text[:8]!r}": text for text in ("", " ", "a", "1", "1.5", "true", "null", "NaN", "2024-01-01", "-")},
    **{
        f"text {text[:8]!a}": text
        for text in (
            "é",
            "e\u0301",
            "日本語",
            "\U0001f600",
            "a\nb",
            "nul\0l",
            '"',
            "\\",
            "\u2028",
            "\ufeff",
            "x" * 9999,
        )
    },
    "bytes, none": b"",
    "bytes, a zero": b"\0",
    "bytes, each": bytes(range(256)),
    "set, empty": set(),
    "set of texts": {"", "a", "é"},
    "set of numbers": {1, 2.5, Decimal("0.1"), 10**37},
    "set of bytes": {b"", b"\0", b"a"},
    "list, empty": [],
    "list of all": [None, True, 1, 1.0, Decimal("1.10"), "", b"", {1}, [[]], {"a": {}}],
    "dict, empty": {},
    "dict like a set": {"$set": [1]},
    "dict like a decimal": {"$decimal": "1.5"},
    "dict like itself": {"$dict": {"$set": []}},
    "dict of all": {"": None, "a": [{"b": {"c": {b"x"}}}], "$": -0.0},
}
"""A value of every kind, by what it is; each comes back type for type and digit for digit."""


def nested(leaf: object) -> Item:
    """An item as deep as can be."""
    value = leaf
    for level in range(MAX_DEPTH):
        value = [value] if level % 2 else {"in": value}
    return {"top": value}


def exactly(value: Any) -> Any:
    """What tells a value from every other of the domain, types and digits included, and the order of dicts left out."""
    kind = type(value)
    if kind is dict:
        return dict, {key: exactly(element) for key, element in value.items()}
    if kind is list:
        return list, [exactly(element) for element in value]
    if kind is set:
        return set, sorted((exactly(element) for element in value), key=repr)
    return kind, repr(value)


def difference(found: object, expected: Segment) -> str:
    """How what was found differs from a segment, in a line; nothing if it does not."""
    if not isinstance(found, Segment):
        return f"found {found!r:.200}, which is no Segment"
    if found.header != expected.header:
        return f"found {found.header}, expected {expected.header}"
    if found.deleted != expected.deleted:
        return f"deleted are {_some(found.deleted)}, expected {_some(expected.deleted)}"
    return items_differ(found.items, expected.items)


def items_differ(found: Any, expected: Any) -> str:
    """How items, by identifier, differ from those expected, in a line; nothing if they do not."""
    if set(found) != set(expected):
        more, less = set(found) - set(expected), set(expected) - set(found)
        return f"too many: {_some(more)}, missing: {_some(less)}"
    for identifier, item in expected.items():
        if exactly(found[identifier]) != exactly(item):
            return f"item {identifier!r:.60}: {_attributes_differ(found[identifier], item)}"
    return ""


def _attributes_differ(found: Any, expected: Item) -> str:
    if type(found) is not dict:
        return f"found {found!r:.200}, which is no dict"
    for name in [*expected, *found]:
        there, wanted = found.get(name, "nothing"), expected.get(name, "nothing")
        if exactly(there) != exactly(wanted):
            return (
                f"attribute {name!r:.60} is {there!r:.100} ({type(there).__name__}), "
                f"expected {wanted!r:.100} ({type(wanted).__name__})"
            )
    return f"has attributes {_some(found)}, expected {_some(expected)}"


def _some(texts: Iterable[str]) -> str:
    """A few of the texts, sorted."""
    listed = sorted(texts)
    shown = ", ".join(f"{each!r:.60}" for each in listed[:5])
    return (f"{shown} and {len(listed) - 5} more" if len(listed) > 5 else shown) or "none"
