"""How things are told."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: float, what: str) -> str:
    """A number of things: `1 event`, `2,000 events`, `0.5 units`."""
    told = f"{number:,.1f}".removesuffix(".0")
    return f"{told} {what}{'' if number == 1 else 's'}"
