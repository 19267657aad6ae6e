"""Partition names that a careless escaping could take for paths, or for one another."""

from __future__ import annotations

from hypothesis import strategies as st

from dynalayer import safe_name

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


def related(text: str) -> st.SearchStrategy[str]:
    """Texts that a careless escaping could take for this one."""
    return st.sampled_from(
        [
            safe_name(text),
            text.swapcase(),
            text.casefold(),
            text.replace("/", "%2f"),
            text.replace("%", "%25"),
            text + ".",
            text + " ",
            text.rstrip(". "),
            text[1:],
            text * 2,
            text + "x" * 300,
            text + "x" * 299 + "y",
        ]
    )


texts = st.text(st.characters(codec="utf-8"), max_size=512) | st.text("./%~aA-_ é", max_size=300)
