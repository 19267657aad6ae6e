"""The DynamoDB log keeps the contract, on moto's server and on AWS's own DynamoDB Local."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import servers
from dynalayer import DynamoDBEventLog
from dynalayer.testing.eventlog import EventLogConformance, OpenLog


class TestOnDynamoDBLocal(EventLogConformance):
    """With a client that the log makes."""

    expires = False

    @pytest.fixture
    def make_log(self, dynamodb_local: str) -> Iterator[OpenLog]:
        client = servers.dynamodb_client(dynamodb_local)
        with servers.fresh_table(client) as name:
            yield lambda table: DynamoDBEventLog(name, table, region=servers.REGION, endpoint_url=dynamodb_local)
        client.close()


class TestOnMoto(EventLogConformance):
    """With a client of the user's own, whose retries are on, and the index spread over shards."""

    expires = False

    @pytest.fixture
    def make_log(self, moto_server: str) -> Iterator[OpenLog]:
        client = servers.session().client("dynamodb", endpoint_url=moto_server, region_name=servers.REGION)
        with servers.fresh_table(client) as name:
            yield lambda table: DynamoDBEventLog(name, table, client=client, pending_shards=4)
        client.close()
