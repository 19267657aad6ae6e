"""What the log is opened with: checked before anything is asked of anyone, by URL and by object alike."""

from __future__ import annotations

import re

from dynalayer.errors import ConfigurationError
from dynalayer.quoting import quoted
from dynalayer.urls import URL

__all__ = ["check_endpoint", "check_name", "check_place", "check_shards"]

_NAME = re.compile(r"[A-Za-z0-9_.-]{3,255}")
_MAX_SHARDS = 64


def check_place(name: object, *, client: object, region: object, endpoint_url: object) -> None:
    """Refuse what leads to no table.

    Raises:
        ConfigurationError: What is wrong. An endpoint is not repeated: it may hold a secret.
    """
    check_name(name)
    if client is not None:
        _check_client(client)
        for what, given in (("region", region), ("endpoint_url", endpoint_url)):
            if given is not None:
                raise ConfigurationError(f"a client of your own has its {what} already; give it or {what}, not both")
    if region is not None and not (isinstance(region, str) and region):
        raise ConfigurationError(f"region={quoted(region, 50)} is no region; one is text, as in eu-west-1")
    if endpoint_url is not None:
        if not isinstance(endpoint_url, str) or not endpoint_url.startswith(("http://", "https://")):
            raise ConfigurationError("events: endpoint_url is a URL as http://127.0.0.1:8000 or https://host")
        URL.parse(endpoint_url, what="endpoint_url")  # refuses credentials


def check_name(name: object) -> str:
    """A DynamoDB table's name, or a `ConfigurationError`."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            "events: write dynamodb://TABLE?region=REGION; a DynamoDB table's name is 3 to 255 of A-Z a-z 0-9 _ . -"
        )
    return name


def check_endpoint(endpoint_url: str) -> None:
    """Refuse an endpoint that a client has by itself, from the environment or a profile, and that holds credentials.

    Raises:
        ConfigurationError: It does. Each error of the client would show it.
    """
    URL.parse(endpoint_url, what="the endpoint of boto3's environment or profile")


def _check_client(client: object) -> None:
    service = getattr(getattr(getattr(client, "meta", None), "service_model", None), "service_name", None)
    if service != "dynamodb":
        kind = type(client)
        raise ConfigurationError(
            f"client is a {kind.__module__}.{kind.__qualname__}, and no low-level client of DynamoDB: "
            "boto3.client('dynamodb') makes one, and a resource has one in resource.meta.client"
        )


def check_shards(pending_shards: object) -> None:
    """Refuse a number of shards that is none.

    Raises:
        ConfigurationError: It is none.
    """
    if type(pending_shards) is not int or not 1 <= pending_shards <= _MAX_SHARDS:
        raise ConfigurationError(
            f"pending_shards={quoted(pending_shards, 50)} is no whole number from 1 to {_MAX_SHARDS}"
        )
