"""Following a stream by a process of one's own, in place of AWS Lambda."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from dynalayer.errors import ConfigurationError, InvalidInputError
from dynalayer.layer import Layer
from dynalayer.optional import need
from dynalayer.quoting import quoted
from dynalayer.streams.intake import DeadLetterOption, Intake
from dynalayer.streams.positions import Start
from dynalayer.streams.records import Stream

if TYPE_CHECKING:  # it needs boto3, which is an extra
    from dynalayer.streams.client import StreamsClient

__all__ = ["Followed", "follow"]

_LONGEST_POLL = 600.0  # seconds; an iterator is good for 900


@dataclass(frozen=True, slots=True)
class Followed:
    """What a follower has done so far.

    Attributes:
        stream: The stream's ARN.
        first: Whether nobody had followed it before.
        shards: Shards that it reads now.
        records: Records read.
        events: Events appended.
        known: Changes that were in the log already, by another delivery of their record.
        set_aside: Records set aside as dead letters.
    """

    stream: str
    first: bool
    shards: int = 0
    records: int = 0
    events: int = 0
    known: int = 0
    set_aside: int = 0


def follow(
    layer: Layer,
    *,
    stream_arn: str | None = None,
    client: StreamsClient | None = None,
    region: str | None = None,
    endpoint_url: str | None = None,
    start: Start = "latest",
    anew: bool = False,
    once: bool = False,
    dead_letters: DeadLetterOption = None,
    poll: float = 1.0,
    stop: threading.Event | None = None,
    progress: Callable[[Followed], object] | None = None,
) -> Followed:
    """Take the stream of the layer's table into the layer, until it is told to stop.

    Each record becomes an event, exactly once; of one item in the stream's order. How far it has come is kept in the
    event log, and whoever follows next goes on there. Several may follow at once: all is still right, and twice the
    work; AWS slows down more than two readers of a shard, a Lambda function counted.

    Args:
        layer: The layer.
        stream_arn: The stream; left out, the newest of the layer's table.
        client: A low-level boto3 client of `dynamodbstreams`; left out, one is made.
        region: For a client that is made; left out, the stream's ARN tells it, or boto3's own chain.
        endpoint_url: Likewise.
        start: Where it begins if nobody has followed the stream before: `"latest"`, with what changes from the first
            call of `progress` on, or `"trim-horizon"`, with all that the stream has: 24 hours.
        anew: Forget how far others have come, and begin so. Nobody else may follow meanwhile.
        once: Return when all that is there was taken: at the end of every shard, as far as several empty answers in a
            row tell it.
        dead_letters: Where records are set aside whose item the layer's functions refuse: the path of a file, or a
            function that is given a `DeadLetter` and has made it durable when it returns. Left out, such a record is an
            error.
        poll: Seconds to wait before asking again where nothing was new, up to 600.
        stop: Set to end it: it returns after the pages at hand.
        progress: Called once it follows, and after each round that brought records.

    Returns:
        What it has done.

    Raises:
        ConfigurationError: An argument is wrong; the stream is another table's, or lacks images that are needed; the
            layer followed another one before.
        SourceError: The stream is not there, is switched off and read to its end, cannot be read, or has forgotten what
            was not read yet: the message says what may be missing, and how to go on.
        InvalidInputError: The layer's functions refuse an item, and there is nowhere to set it aside.
        EventLogError: The log failed.
        ClosedError: The layer was closed.
    """
    _check(start, poll)
    if client is not None and (region or endpoint_url):
        raise ConfigurationError("a client of your own has its region and endpoint already; give it or these, not both")
    stream = None if stream_arn is None else _given(stream_arn)
    intake = Intake(layer, dead_letters)
    if stream is not None:
        intake.places.check_stream(stream)
    walking = need(
        "dynalayer.streams.walking", "following a stream", packages=("boto3", "botocore"), install="dynalayer[dynamodb]"
    )
    if stream is not None and region is None and endpoint_url is None:  # elsewhere an ARN may name no region of AWS's
        region = stream.arn.split(":")[3]
    stop = threading.Event() if stop is None else stop
    walker = walking.opened(intake, client, region, endpoint_url, stream, stop)
    followed: Followed = walker.follow(start, anew=anew, once=once, poll=poll, progress=progress or (lambda _: None))
    return followed


def _check(start: object, poll: object) -> None:
    if start not in get_args(Start):
        raise ConfigurationError(f"start={quoted(start)} is neither 'latest' nor 'trim-horizon'")
    if isinstance(poll, bool) or not isinstance(poll, int | float) or not 0 <= poll <= _LONGEST_POLL:
        raise ConfigurationError(f"poll={quoted(poll)} is no number of seconds from 0 to {_LONGEST_POLL:.0f}")


def _given(arn: object) -> Stream:
    try:
        return Stream.parse(arn, "stream_arn")
    except InvalidInputError as error:
        raise ConfigurationError(error.message) from error
