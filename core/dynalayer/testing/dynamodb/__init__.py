"""A DynamoDB that misbehaves as the service may, and keeps to the service's limits.

`FaultyDynamoDB` is an HTTP proxy in front of an emulator, DynamoDB Local or moto's server: any client in any process
that is given its URL as the endpoint meets its faults::

    faults = Faults(lost_answer=0.05, late_request=0.02, lateness=2.0, throttle=0.1, short_page=0.3, index_lag=5.0)
    with FaultyDynamoDB("http://localhost:8000", seed=7, faults=faults) as proxy:
        client = boto3.client("dynamodb", endpoint_url=proxy.url)
        ...                                 # write and read
        with proxy.quiet():                 # nothing is under way any more, nothing goes wrong
            ...                             # look whether all is there
        print(proxy.told)                   # {"lost_answer": 4, "short_page": 31, ...}

The endpoint must not check signatures: requests are changed on their way, and the proxy makes some of its own. PartiQL
and streams pass; of the faults they meet those of the connection, throttling and server errors.
"""

from __future__ import annotations

from dynalayer.testing.dynamodb.faults import NO_FAULTS, Faults
from dynalayer.testing.dynamodb.proxy import FaultyDynamoDB

__all__ = ["NO_FAULTS", "Faults", "FaultyDynamoDB"]
