"""Partition names that a careless escaping could take for paths, or for one another."""

from __future__ import annotations

from hypothesis import strategies as st

from dynalayer import safe_name
from dynalayer.testing.adapters import ODD_NAMES

__all__ = ["ODD_NAMES", "related", "texts"]


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
