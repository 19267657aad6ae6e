"""Moments: exact to the microsecond in every form, and in the order of their text."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynalayer.clock import INITIAL, MICROSECONDS, from_iso, now, to_datetime, to_iso, to_microseconds

_YEAR = 366 * 24 * 3600 * MICROSECONDS
moments = st.integers(-1000 * _YEAR, 5000 * _YEAR)


@given(moments)
def test_a_moment_comes_back_exactly_from_a_datetime(moment: int) -> None:
    assert to_microseconds(to_datetime(moment)) == moment


@given(moments)
def test_a_moment_comes_back_exactly_from_iso_text(moment: int) -> None:
    assert from_iso(to_iso(moment)) == moment


@given(moments, moments)
def test_the_order_of_iso_text_is_the_order_of_time(one: int, other: int) -> None:
    assert (to_iso(one) < to_iso(other)) == (one < other)


@given(moments)
def test_iso_text_is_utc_with_six_decimals(moment: int) -> None:
    text = to_iso(moment)
    assert len(text) == len("2024-01-01T00:00:00.000000Z")
    assert text.endswith("Z")
    assert datetime.fromisoformat(text) == to_datetime(moment)


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (1_704_067_200 * MICROSECONDS, "2024-01-01T00:00:00.000000Z"),
        (1_709_164_800 * MICROSECONDS, "2024-02-29T00:00:00.000000Z"),
    ],
)
def test_known_moments_have_their_known_text(moment: int, text: str) -> None:
    assert to_iso(moment) == text
    assert from_iso(text) == moment


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_a_datetime_of_any_zone_is_the_same_moment(moment: int, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    assert to_microseconds(to_datetime(moment).astimezone(zone)) == moment


def test_datetimes_are_aware_and_in_utc() -> None:
    assert to_datetime(0).tzinfo is UTC


def test_now_is_the_wall_clocks_moment_in_microseconds() -> None:
    before = time.time()
    moment = now()
    assert before - 1 < moment / MICROSECONDS < time.time() + 1
    assert type(moment) is int


def test_every_cursor_of_a_sync_sorts_before_the_cursor_of_a_pending_record() -> None:
    assert to_iso(now()) < INITIAL
