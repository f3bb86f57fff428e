"""A service like S3 on loopback, for tests: moto's, which models conditional writes, parts and denied access.

It runs in this process; processes that a test starts reach it by the environment, as in production.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import Request, urlopen

import pytest
from moto.server import ThreadedMotoServer


@contextmanager
def an_s3_server() -> Iterator[str]:
    """Its address, while it answers."""
    served = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    served.start()
    try:
        host, port = served.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        served.stop()


def a_bucket(server: str, name: str, environment: pytest.MonkeyPatch) -> str:
    """Make a bucket, and tell the environment who serves it; its URL."""
    environment.setenv("AWS_ENDPOINT_URL", server)
    environment.setenv("AWS_ACCESS_KEY_ID", "access")
    environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    environment.setenv("AWS_REGION", "us-east-1")
    with urlopen(Request(f"{server}/{name}", method="PUT")):
        return f"s3://{name}"


def open_to_readers(server: str, name: str) -> None:
    """Let anybody read a bucket, as one that a CDN stands before."""
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{name}/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]}).encode()
    headers = {"Content-Type": "application/json"}
    with urlopen(Request(f"{server}/{name}?policy", policy, headers, method="PUT")):
        return
