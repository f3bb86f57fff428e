"""What a vehicle's inventory takes in the store, and that nothing of it is lost there."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
import redis
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.model.fleet import Ecu, Vehicle
from orchestrator.model.ids import EcuSerial, HardwareId, VehicleId
from orchestrator.store.redis import RedisStore
from orchestrator.store.redis.embedded import EmbeddedServer
from orchestrator.store.redis.inventory import decode_vehicle, encode_shape, encode_units
from orchestrator.store.redis.keys import key, shard_tag
from tests.builders import NOW, a_vehicle


def a_key(kind: str) -> str:
    """A public key as provisioning writes it."""
    made = ec.generate_private_key(ec.SECP256R1()) if kind == "p256" else ed25519.Ed25519PrivateKey.generate()
    return base64.b64encode(made.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def with_keys(*keys: str) -> Vehicle:
    """A vehicle with as many control units, the first of them the Primary."""
    units = (
        Ecu(EcuSerial(f"serial-{index}"), HardwareId(f"acme-{index}"), public_key, primary=index == 0)
        for index, public_key in enumerate(keys)
    )
    return replace(a_vehicle(), tags=("fleet-a", "tow"), ecus=tuple(units))


@pytest.mark.parametrize(
    "keys",
    [
        (a_key("p256"),),
        (a_key("ed25519"), a_key("p256"), a_key("p256")),
        ("not a key", "", base64.b64encode(b"x" * 91).decode(), a_key("p256") + "\n"),
    ],
)
def test_a_vehicle_survives_encoding_whatever_its_keys(keys: tuple[str, ...]) -> None:
    """A key that is written in another way than most comes back as it was written, or signatures of it would fail."""
    vehicle = with_keys(*keys)
    record = b"7|" + encode_units(vehicle)
    assert decode_vehicle(vehicle.vehicle_id.encode(), encode_shape(vehicle), record) == vehicle


async def test_vehicles_that_have_all_in_common_share_a_shape(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """What a million vehicles have in common is kept once a shard."""
    fleet = [replace(with_keys(a_key("p256")), vehicle_id=VehicleId(f"v-{index}")) for index in range(200)]
    await redis_store.import_vehicles(fleet, now=NOW)
    moved = replace(fleet[0], region="elsewhere")
    await redis_store.import_vehicles([moved], now=NOW)
    record = await redis_store.vehicle(moved.vehicle_id)
    assert record is not None
    assert record.vehicle == moved
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        tags = [shard_tag(shard) for shard in range(redis_store.shards)]
        shapes = [client.hlen(key(tag, "shapes")) for tag in tags]
    assert max(shapes) == 2
    assert sum(shapes) == len(tags) + 1


async def test_nothing_is_kept_of_a_vehicle_that_never_called(
    redis_store: RedisStore, embedded_server: EmbeddedServer
) -> None:
    """A fleet that is registered years before its cars are built costs its inventory, and no more."""
    vehicle = with_keys(a_key("p256"), a_key("p256"))
    await redis_store.import_vehicles([vehicle], now=NOW)
    with redis.Redis(unix_socket_path=str(embedded_server.socket_path), protocol=3) as client:
        assert [client.exists(key(shard_tag(shard), "hot")) for shard in range(redis_store.shards)] == [
            0
        ] * redis_store.shards
