"""What was, or would be, requested, and what is paid for it."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

from dynalayer.errors import ConfigurationError, InvalidInputError
from dynalayer.quoting import quoted

__all__ = ["Cost", "Prices", "Request", "Usage", "check_prices"]

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Usage:
    """What was, or would be, requested. Adds up with `+`; `Usage()` is nothing.

    Attributes:
        requests: Requests to DynamoDB.
        read_units: Read request units, in halves.
        write_units: Write request units.
        storage_reads: Requests that read from the storage adapter's store.
        storage_writes: Requests that write to it.
    """

    requests: int = 0
    read_units: float = 0.0
    write_units: float = 0.0
    storage_reads: int = 0
    storage_writes: int = 0

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            self.requests + other.requests,
            self.read_units + other.read_units,
            self.write_units + other.write_units,
            self.storage_reads + other.storage_reads,
            self.storage_writes + other.storage_writes,
        )


@dataclass(frozen=True, slots=True)
class Prices:
    """What is paid for a request. What is not paid by request (storage, backups, transfer) stands nowhere here.

    The defaults are the on-demand prices of DynamoDB's Standard table class in US East (N. Virginia), in force since
    November 2024 (page "Pricing for On-Demand Capacity"), and a storage adapter that costs nothing by request, as
    local files do. For S3 Standard in the same region it is `storage_read=0.0000004, storage_write=0.000005`
    ($0.0004 for 1,000 GET, $0.005 for 1,000 PUT; page "Amazon S3 pricing").

    Attributes:
        currency: What the prices are in.
        region: Where they hold.
        as_of: When they were looked up.
        read_million: Price of a million read request units.
        write_million: Price of a million write request units.
        storage_read: Price of one request that reads from the storage adapter's store.
        storage_write: Price of one request that writes to it.

    Raises:
        ConfigurationError: A price is no finite number of at least 0, or something else is no text; names it.
    """

    currency: str = "USD"
    region: str = "us-east-1"
    as_of: str = "2026-09-08"
    read_million: float = 0.125
    write_million: float = 0.625
    storage_read: float = 0.0
    storage_write: float = 0.0

    def __post_init__(self) -> None:
        for key in _TEXTS:
            if not isinstance(getattr(self, key), str):
                raise _refusal(f"{key} is text", getattr(self, key))
        for key, what in _PRICES.items():
            price = getattr(self, key)
            if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price <= sys.float_info.max:
                raise _refusal(f"{key} is the price of {what}, a number of at least 0", price)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Prices from a table of field names to values; what it leaves out has its default.

        Where it names a currency or a region it gives all four figures: the defaults are of another.

        Args:
            mapping: The table. `as_of` may also be a date, as TOML has them.

        Raises:
            ConfigurationError: A key is unknown or missing, or its value is not what it should be; names the key.
        """
        if not isinstance(mapping, Mapping):
            raise _refusal("it is a table of field names to values", mapping)
        for key in mapping:
            if key not in _KEYS:
                raise ConfigurationError(f"the price table has no key {quoted(key, 50)}; {_KNOWN}")
        given = dict(mapping)
        if isinstance(given.get("as_of"), date):
            given["as_of"] = given["as_of"].isoformat()
        prices = cls(**given)
        missing = [key for key in _PRICES if key not in given]
        label = next((key for key in ("currency", "region") if key in given), None)
        if label is not None and missing:
            raise ConfigurationError(
                f"the price table names a {label}, {quoted(given[label], 50)}, and leaves out {', '.join(missing)}, "
                "whose defaults are in USD and of us-east-1; give all four figures"
            )
        return prices

    @classmethod
    def from_toml(cls, path: str | PathLike[str]) -> Self:
        """Prices from a TOML file of field names and values: `write_million = 0.7`.

        Raises:
            ConfigurationError: It is not there, is no TOML, or holds what `from_mapping` refuses.
        """
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigurationError(f"the price table {str(path)!r} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise ConfigurationError(f"the price table {str(path)!r} is no TOML: {error}; {_KNOWN}") from error
        try:
            return cls.from_mapping(table)
        except ConfigurationError as error:
            raise ConfigurationError(f"{str(path)!r}: {error.message}") from error

    def dollars(self, usage: Usage) -> float:
        """The price of what was requested, in `currency`."""
        units = usage.read_units * self.read_million + usage.write_units * self.write_million
        stored = usage.storage_reads * self.storage_read + usage.storage_writes * self.storage_write
        return units / _MILLION + stored


_TEXTS = ("currency", "region", "as_of")
_PRICES = {
    "read_million": "a million read request units",
    "write_million": "a million write request units",
    "storage_read": "one request that reads from the storage adapter's store",
    "storage_write": "one request that writes to the storage adapter's store",
}
_KEYS = tuple(field.name for field in dataclasses.fields(Prices))
_KNOWN = f"its keys are {', '.join(_KEYS)}"


def _refusal(rule: str, value: object) -> ConfigurationError:
    return ConfigurationError(f"in the price table {rule}, not {quoted(value)}; {_KNOWN}")


def check_prices(prices: object) -> Prices:
    """Prices as they were given.

    Raises:
        InvalidInputError: They are none; says how to make them.
    """
    if not isinstance(prices, Prices):
        raise InvalidInputError(
            f"prices={quoted(prices)} is no Prices; Prices.from_toml(path) makes them of a file, "
            "Prices.from_mapping(mapping) of a dict"
        )
    return prices


# What an explanation tells


@dataclass(frozen=True, slots=True)
class Request:
    """Requests of one kind that a call makes.

    Attributes:
        name: What is requested: `"Query"`, `"PutItem"`, `"get segment"`.
        count: How many of them there are.
        read_units: Read units of all of them together.
        write_units: Write units of all of them together, those of indexes included.
        why: A few words of what they are for: `"the records above the snapshot, and the head"`.
        storage: Whether they read from or write to the storage adapter's store; None for requests to DynamoDB.
    """

    name: str
    count: int
    read_units: float
    write_units: float
    why: str
    storage: Literal["read", "write"] | None = None

    @property
    def usage(self) -> Usage:
        """The same as usage."""
        return Usage(
            requests=self.count if self.storage is None else 0,
            read_units=self.read_units,
            write_units=self.write_units,
            storage_reads=self.count if self.storage == "read" else 0,
            storage_writes=self.count if self.storage == "write" else 0,
        )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs, request by request. Adds up with `+`; `Cost()` is nothing.

    Attributes:
        requests: The requests, in the order in which they are made.
    """

    requests: tuple[Request, ...] = ()

    def __add__(self, other: Cost) -> Cost:
        if not isinstance(other, Cost):
            return NotImplemented
        return Cost(self.requests + other.requests)

    @property
    def count(self) -> int:
        """How many requests there are, those to the storage adapter's store included."""
        return sum(request.count for request in self.requests)

    @property
    def usage(self) -> Usage:
        """The sum of all of them."""
        return sum((request.usage for request in self.requests), Usage())
