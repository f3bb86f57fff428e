"""Open channels to the vehicle port, each with one vehicle's own certificate: a bounded pool, least recently used out.

Owns TLS files and channel life; leaves calls to `calls`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from outrider.v1.vehicle_pb2_grpc import VehicleServiceStub

from agent_sim.tally import Tally

if TYPE_CHECKING:
    from outrider.v1.vehicle_pb2_grpc import VehicleServiceAsyncStub

_OPTIONS = (
    # Each vehicle is a TLS client of its own: connections are never shared between channels.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 16 << 20),
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where a vehicle keeps what it proves itself with."""

    key: Path
    chain: Path
    server_ca: Path

    def credentials(self) -> grpc.ChannelCredentials:
        """Read them.

        Raises:
            OSError: one is missing or unreadable.
        """
        return grpc.ssl_channel_credentials(
            root_certificates=self.server_ca.read_bytes(),
            private_key=self.key.read_bytes(),
            certificate_chain=self.chain.read_bytes(),
        )


@dataclass(slots=True)
class _Open:
    tls: TlsFiles
    channel: grpc.aio.Channel
    stub: VehicleServiceAsyncStub
    users: int = 0
    discarded: bool = False


class ChannelPool:
    """Channels by vehicle.

    Args:
        target: says `host:port` of the vehicle port, each time a channel is opened.
        tally: counted into.
        open_max: idle channels beyond this are closed, least recently used first.
    """

    def __init__(self, target: Callable[[], str], tally: Tally, *, open_max: int) -> None:
        self._target = target
        self._tally = tally
        self._open_max = open_max
        self._open: OrderedDict[str, _Open] = OrderedDict()

    @asynccontextmanager
    async def stub(self, vehicle_id: str, tls: TlsFiles) -> AsyncIterator[VehicleServiceAsyncStub]:
        """The vehicle service as `vehicle_id`; a channel that finds no server is thrown away."""
        entry = self._entry(vehicle_id, tls)
        entry.users += 1
        try:
            yield entry.stub
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                self._discard(vehicle_id, entry)
            raise
        finally:
            entry.users -= 1
            await self._close_unused(entry)

    def _entry(self, vehicle_id: str, tls: TlsFiles) -> _Open:
        entry = self._open.get(vehicle_id)
        if entry is not None and entry.tls != tls:
            # It shows another certificate now; calls under way end on the old channel.
            self._discard(vehicle_id, entry)
            entry = None
        if entry is None:
            channel = grpc.aio.secure_channel(self._target(), tls.credentials(), options=_OPTIONS)
            stub: VehicleServiceAsyncStub = VehicleServiceStub(channel)
            entry = self._open[vehicle_id] = _Open(tls, channel, stub)
            self._tally.connections += 1
        self._open.move_to_end(vehicle_id)
        return entry

    def _discard(self, vehicle_id: str, entry: _Open) -> None:
        entry.discarded = True
        if self._open.get(vehicle_id) is entry:
            del self._open[vehicle_id]

    async def _close_unused(self, entry: _Open) -> None:
        victims = []
        if (surplus := len(self._open) - self._open_max) > 0:
            idle = [name for name, other in self._open.items() if other.users == 0]
            victims = [self._open.pop(name) for name in idle[:surplus]]
        if entry.discarded and entry.users == 0:
            victims.append(entry)
        for victim in victims:
            await victim.channel.close()

    async def close(self) -> None:
        """Close everything."""
        while self._open:
            _, entry = self._open.popitem()
            await entry.channel.close()
