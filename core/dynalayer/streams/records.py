"""Stream records, taken apart and checked: as AWS Lambda hands them over, and as `GetRecords` gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self, get_args

from dynalayer.clock import MICROSECONDS, to_microseconds
from dynalayer.errors import InvalidInputError
from dynalayer.quoting import quoted
from dynalayer.streams.images import image
from dynalayer.values import Item

__all__ = ["MAX_SEQUENCE_DIGITS", "Stream", "StreamRecord", "ViewType", "record_of", "records_of_lambda"]

ChangeName = Literal["INSERT", "MODIFY", "REMOVE"]
_NAMES: tuple[ChangeName, ...] = get_args(ChangeName)

ViewType = Literal["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"]
"""Which images a stream's records have."""

MAX_SEQUENCE_DIGITS = 40
"""How long a sequence number may be (API reference, StreamRecord)."""

_ARN = re.compile(r"arn:[\w-]+:dynamodb:[\w-]+:\d*:table/([A-Za-z0-9_.-]{1,255})/stream/([\w.:+-]{1,64})")
_SEQUENCE = re.compile(rf"[0-9]{{1,{MAX_SEQUENCE_DIGITS}}}")


@dataclass(frozen=True, slots=True)
class Stream:
    """A table's stream. A table whose stream is switched off and on again has another one then.

    Attributes:
        arn: Its name in AWS.
        table: The table's name.
        label: When it was made: tells it from the table's other ones.
    """

    arn: str
    table: str
    label: str

    @classmethod
    def parse(cls, arn: object, what: str) -> Self:
        """A stream from its ARN.

        Raises:
            InvalidInputError: It is none of a DynamoDB table's stream.
        """
        match = _ARN.fullmatch(arn) if isinstance(arn, str) else None
        if match is None:
            raise InvalidInputError(
                f"{what} is {quoted(arn, 200)}, and a stream's is "
                "arn:aws:dynamodb:REGION:ACCOUNT:table/TABLE/stream/LABEL"
            )
        return cls(match[0], match[1], match[2])


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One change of an item of the table.

    Attributes:
        stream: The stream that it is of.
        name: What was done: INSERT, MODIFY or REMOVE, be it by the table's TTL.
        number: Its sequence number, as it is written.
        created: About when, in microseconds since the epoch; None where it does not say.
        keys: The item's key attributes.
        new: The item after the change, where the stream has it.
        old: The item before, likewise.
        view: Which images it should have; empty where it does not say.
    """

    stream: Stream
    name: ChangeName
    number: str
    created: int | None
    keys: Item
    new: Item | None
    old: Item | None
    view: str

    @property
    def sequence(self) -> int:
        """Its sequence number: of one item's, the later has the higher."""
        return int(self.number)

    def __str__(self) -> str:
        keys = quoted(dict(sorted(self.keys.items())), 200)
        return f"record {self.number} of the stream of {self.stream.table!r}, item {keys}"


def records_of_lambda(event: object) -> list[StreamRecord]:
    """The records of an event as AWS Lambda hands it to a function.

    Raises:
        InvalidInputError: It is none of a DynamoDB stream's; names what is wrong.
    """
    if not isinstance(event, Mapping) or not isinstance(event.get("Records"), list):
        raise InvalidInputError(f"an event of a DynamoDB stream has a list of 'Records'; this is {quoted(event, 200)}")
    found = []
    streams: dict[Any, Stream] = {}
    for position, record in enumerate(event["Records"]):
        what = f"Records[{position}]"
        _check_source(record, what)
        arn = record.get("eventSourceARN")
        if not isinstance(arn, str) or arn not in streams:
            streams[arn] = Stream.parse(arn, f"{what}.eventSourceARN")
        found.append(record_of(record, streams[arn], what))
    return found


def _check_source(record: object, what: str) -> None:
    if not isinstance(record, Mapping):
        raise InvalidInputError(f"{what} is {quoted(record)}, and no record of a DynamoDB stream")
    source = record.get("eventSource")
    if source != "aws:dynamodb":
        raise InvalidInputError(
            f"{what} is from {quoted(source)}, not from a DynamoDB stream (aws:dynamodb): the function has another "
            "trigger, which this handler cannot take"
        )


def record_of(record: object, stream: Stream, what: str) -> StreamRecord:
    """A record, of Lambda's or of `GetRecords`.

    Args:
        record: The record.
        stream: The stream that it is of.
        what: What to call it in errors.

    Raises:
        InvalidInputError: It is malformed; names what is wrong, and where.
    """
    if not isinstance(record, Mapping):
        raise InvalidInputError(f"{what} is {quoted(record)}, and no record of a DynamoDB stream")
    given = record.get("eventName")
    name = next((each for each in _NAMES if each == given), None)
    if name is None:
        raise InvalidInputError(f"{what}.eventName is {quoted(given)}, and none of {', '.join(_NAMES)}")
    told = record.get("dynamodb")
    if not isinstance(told, Mapping):
        raise InvalidInputError(f"{what}.dynamodb is {quoted(told)}, and no description of a change")
    number = told.get("SequenceNumber")
    if not isinstance(number, str) or not _SEQUENCE.fullmatch(number):
        raise InvalidInputError(
            f"{what}.dynamodb.SequenceNumber is {quoted(number)}, and no number of 1 to {MAX_SEQUENCE_DIGITS} digits"
        )
    keys = image(told.get("Keys"), f"{what}.dynamodb.Keys")
    if not keys:
        raise InvalidInputError(f"{what}.dynamodb.Keys is empty: nothing says which item changed")
    view = told.get("StreamViewType")
    new, old = (_image(told, each, f"{what}.dynamodb.{each}") for each in ("NewImage", "OldImage"))
    created = _moment(told.get("ApproximateCreationDateTime"))
    return StreamRecord(stream, name, number, created, keys, new, old, view if isinstance(view, str) else "")


def _image(told: Mapping[str, Any], name: str, what: str) -> Item | None:
    return image(told[name], what) if told.get(name) not in (None, {}) else None


def _moment(given: object) -> int | None:
    """A moment: boto3 gives a datetime, Lambda seconds. It only says where to begin, so that none is needed."""
    if isinstance(given, datetime) and given.tzinfo is not None:
        return to_microseconds(given)
    if isinstance(given, int | float) and not isinstance(given, bool) and 0 <= given < 2**40:
        return int(given * MICROSECONDS)
    return None
