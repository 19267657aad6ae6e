"""What can go wrong with a request: what is certain then, whether it can help to try again, and what to do."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
    TokenRetrievalError,
)

from dynalayer.errors import EventLogError

__all__ = [
    "Certainty",
    "FailedCallError",
    "TakenError",
    "code_of",
    "is_dynamodbs",
    "not_dynamodbs",
    "reason_of",
    "refused",
    "unanswered",
]

Certainty = Literal["not done", "unknown"]
"""What is certain of a request that failed."""

# Put off, and certainly not done: the same request may succeed a moment later.
_BUSY = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteConflictException",
        "RequestLimitExceeded",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_BUSY_REASONS = frozenset(
    {"None", "ConditionalCheckFailed", "ProvisionedThroughputExceeded", "ThrottlingError", "TransactionConflict"}
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_NO_CREDENTIALS = (NoCredentialsError, PartialCredentialsError, TokenRetrievalError)
# The name in the body's `__type`; where the body has none, botocore takes the status for one.
_NAME = re.compile("[A-Za-z]+")
# Not ProxyConnectionError: any connection that breaks off behind a proxy is called so, after the sending too.
_NOT_SENT = (ConnectTimeoutError, EndpointConnectionError, NoRegionError)
_SECRETS = re.compile(r"(?<=://)[^\s'\"]*@")


class TakenError(Exception):
    """A condition did not hold, and nothing was done.

    Attributes:
        row: The row that was there, where the service tells it.
        reasons: Of a transaction, what the service tells of each of its actions; else empty.
    """

    def __init__(self, row: Mapping[str, Any] | None, reasons: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__("the condition did not hold")
        self.row = row
        self.reasons = reasons


class FailedCallError(EventLogError):
    """A request that failed.

    Attributes:
        certainty: Whether it may have been done all the same.
        code: The service's own name for the error; empty where it gave none.
        reasons: Of a transaction that was cancelled, what the service tells of each of its actions; else empty.
    """

    def __init__(
        self,
        message: str,
        *,
        certainty: Certainty,
        retryable: bool,
        code: str = "",
        reasons: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message, retryable=retryable)
        self.certainty = certainty
        self.code = code
        self.reasons = reasons


def code_of(error: ClientError) -> str:
    """The service's own name for an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def reason_of(error: Exception) -> str:
    """What went wrong, in the service's own words or the client's, without what may be a secret in a URL."""
    told = str(error)
    if isinstance(error, ClientError):
        # Not its text, which tells of the client's own retries.
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code, message = code_of(error), error.response.get("Error", {}).get("Message")
        name = code if _NAME.fullmatch(code) else f"HTTP {status}"
        told = f"{name}: {message}" if message else name
    return _SECRETS.sub("…@", told)


def _reasons(error: ClientError) -> Sequence[Mapping[str, Any]]:
    """Why a transaction was cancelled, an entry for each of its actions."""
    response: Mapping[str, Any] = error.response  # the stubs do not know what single operations add
    return response.get("CancellationReasons") or ()


def is_dynamodbs(answer: Mapping[str, Any]) -> bool:
    """Whether an answer that is no error says what DynamoDB's always do: what it consumed, or the request's id."""
    return "ConsumedCapacity" in answer or "RequestId" in answer.get("ResponseMetadata", {})


def not_dynamodbs(location: str, action: str, told: str) -> FailedCallError:
    """What an answer comes to that DynamoDB would not give: what stands before it may have passed the request on."""
    return FailedCallError(
        f"what answered to {action} for {location} is perhaps not DynamoDB ({told}): look at endpoint_url and "
        "region, and at the proxies between",
        certainty="unknown",
        retryable=True,
    )


def refused(location: str, action: str, error: ClientError, *, url: str) -> TakenError | FailedCallError:
    """What an answer that is an error comes to.

    Args:
        location: What people call the table.
        action: What was asked.
        error: The answer.
        url: The table with the region and the endpoint that were asked, for a command that can be pasted.
    """
    code = code_of(error)
    response: Mapping[str, Any] = error.response
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    reason = reason_of(error)
    if status >= 500:
        return FailedCallError(f"{location} failed inside at {action}: {reason}", certainty="unknown", retryable=True)
    if status < 400 or not _NAME.fullmatch(code):
        return not_dynamodbs(location, action, reason)
    if code == "ConditionalCheckFailedException":
        return TakenError(response.get("Item"))
    if code == "TransactionCanceledException":
        return _cancelled(location, action, error)
    return FailedCallError(
        f"{location} refused {action}: {reason}{_advice(url, action, code)}",
        certainty="not done",
        retryable=code in _BUSY,
        code=code,
    )


def _cancelled(location: str, action: str, error: ClientError) -> TakenError | FailedCallError:
    reasons = _reasons(error)
    codes = {str(reason.get("Code", "None")) for reason in reasons}
    if "ConditionalCheckFailed" in codes and codes <= {"None", "ConditionalCheckFailed"}:
        return TakenError(next((reason["Item"] for reason in reasons if reason.get("Item")), None), reasons)
    return FailedCallError(
        f"{location} cancelled {action}: {reason_of(error)}",
        certainty="not done",
        retryable=bool(codes) and codes <= _BUSY_REASONS,
        reasons=reasons,
    )


def unanswered(location: str, action: str, error: BotoCoreError) -> FailedCallError:
    """What it comes to that no answer came."""
    reason = reason_of(error)
    if isinstance(error, _NO_CREDENTIALS):
        return FailedCallError(
            f"{location} cannot be asked: {reason}; boto3 finds them in its own chain: environment, profile, role",
            certainty="not done",
            retryable=False,
        )
    hint = ""
    if isinstance(error, SSLError):
        hint = "; look at endpoint_url, and at the certificates that boto3 is given, as by AWS_CA_BUNDLE"
    return FailedCallError(
        f"{location} did not answer to {action}: {reason}{hint}",
        certainty="not done" if isinstance(error, _NOT_SENT) else "unknown",
        retryable=not _lasts(error),
    )


def _lasts(error: BotoCoreError) -> bool:
    """Whether the same request would fail in the same way."""
    if not isinstance(error, SSLError):
        return isinstance(error, NoRegionError | ParamValidationError)
    told: Any = error
    cause = next(iter(getattr(told.kwargs.get("error"), "args", ())), None)
    if isinstance(cause, ssl.SSLError):  # of which most tell that a connection broke
        reason, library = (getattr(cause, name, None) for name in ("reason", "library"))
        return reason in ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER") or library in ("PEM", "X509")
    return isinstance(cause, OSError) and not isinstance(cause, ConnectionError | TimeoutError)  # no such file


def _advice(url: str, action: str, code: str) -> str:
    if code == "ResourceNotFoundException":
        return f"; if it is in another region name that, and else `dynalayer create-table '{url}'` makes it"
    if code in _DENIED:
        name = "".join(word.capitalize() for word in action.split("_"))
        needed = "PutItem and dynamodb:UpdateItem" if name == "TransactWriteItems" else name
        return f"; the role in use needs dynamodb:{needed} on the table and its index"
    if code in _CREDENTIALS:
        return "; boto3's credentials are wrong or have run out, or this machine's clock is off"
    return ""
