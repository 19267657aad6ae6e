"""Anything at all as an error shows it."""

from __future__ import annotations

__all__ = ["quoted"]


def quoted(value: object, most: int = 100) -> str:
    """A value as Python writes it, cut short.

    It never raises: a whole number of more than 4,300 digits has no text, and a stranger's `__repr__` may fail.

    Args:
        value: The value.
        most: Characters.
    """
    try:
        return repr(value)[:most]
    except Exception:  # noqa: BLE001 -- what is told is that a value is wrong, and must not hide behind another error
        return f"<{type(value).__name__} that cannot be shown>"
