"""The bare baseline of calls: a grpc.aio server that takes a check-in and answers with one that was made beforehand.

No more than what any server in Python pays: mutual TLS, HTTP/2, the messages read and written. Started as a process of
its own by `calling`; ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
from outrider.v1 import vehicle_pb2


def echo(quiet: vehicle_pb2.CheckInResponse, eventful: vehicle_pb2.CheckInResponse) -> grpc.GenericRpcHandler:
    """Answers each poll alike, by whether it brings an event.

    Args:
        quiet: to those without.
        eventful: to those with one.
    """

    async def check_in(request: vehicle_pb2.CheckInRequest, context: Any) -> vehicle_pb2.CheckInResponse:
        del context
        return eventful if request.events else quiet

    handler = grpc.unary_unary_rpc_method_handler(
        check_in,
        request_deserializer=vehicle_pb2.CheckInRequest.FromString,
        response_serializer=vehicle_pb2.CheckInResponse.SerializeToString,
    )
    return grpc.method_handlers_generic_handler("outrider.v1.VehicleService", {"CheckIn": handler})


async def serve(orders: dict[str, str]) -> None:
    """Serve until standard input ends.

    Args:
        orders: key, chain and authority of clients as PEM; both answers in hex.
    """
    server = grpc.aio.server()
    answers = [vehicle_pb2.CheckInResponse.FromString(bytes.fromhex(orders[name])) for name in ("quiet", "eventful")]
    server.add_generic_rpc_handlers([echo(*answers)])
    credentials = grpc.ssl_server_credentials(
        [(orders["key"].encode(), orders["chain"].encode())],
        root_certificates=orders["clients"].encode(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.stdin.readline())))
