"""Leases: on the head's row, whose revision they leave alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynalayer.eventlog.base import MAX_LEASE
from dynalayer.eventlog.dynamodb.connection import Connection
from dynalayer.eventlog.dynamodb.failures import TakenError

__all__ = ["Leases"]


class Leases:
    """Takes leases and gives them back.

    Args:
        connection: The table.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def take(self, key: Mapping[str, Any], owner: str, now: int, until: int) -> bool:
        """Take or prolong the lease on a row; False while another's lasts.

        Raises:
            EventLogError: It failed.
        """
        try:
            self._connection.call(
                "update_item",
                Key=key,
                UpdateExpression="SET lease_owner = :owner, lease_until = :until",
                ConditionExpression=(
                    "attribute_not_exists(lease_owner) OR lease_owner = :owner "
                    "OR lease_until <= :now OR lease_until > :longest"
                ),
                ExpressionAttributeValues={
                    ":owner": {"S": owner},
                    ":until": {"N": str(until)},
                    ":now": {"N": str(now)},
                    ":longest": {"N": str(now + MAX_LEASE)},
                },
            )
        except TakenError:
            return False
        return True

    def release(self, key: Mapping[str, Any], owner: str) -> None:
        """Give a lease back, if it is still this owner's.

        Raises:
            EventLogError: It failed.
        """
        try:
            self._connection.call(
                "update_item",
                Key=key,
                UpdateExpression="REMOVE lease_owner, lease_until",
                ConditionExpression="lease_owner = :owner",
                ExpressionAttributeValues={":owner": {"S": owner}},
            )
        except TakenError:
            return  # another's by now
