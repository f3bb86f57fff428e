"""Last contacts on their way into a real store: one that has no form there is nobody else's trouble."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.model.ids import FleetTime, VehicleId
from orchestrator.service.last_seen import LastSeen
from orchestrator.store.redis import RedisStore
from tests.builders import NOW, a_contact, a_diagnostic, a_vehicle


async def test_contact_that_cannot_be_written_is_dropped_alone(redis_store: RedisStore) -> None:
    """It would end the worker, and with it all that others told in that second; then the next one."""
    names = [VehicleId(f"v-{number}") for number in range(9)]
    odd = names[4]
    await redis_store.import_vehicles([a_vehicle(name) for name in names], now=NOW)
    last_seen = LastSeen(redis_store)
    for name in names:
        last_seen.saw(name, a_contact())
    last_seen.saw(odd, replace(a_contact(), diagnostics=(a_diagnostic(at=FleetTime(2**70)),)))
    await last_seen.flush()
    records = {name: await redis_store.vehicle(name) for name in names}
    assert {name for name, record in records.items() if record and record.last_seen_at is None} == {odd}
    last_seen.saw(odd, a_contact())
    await last_seen.flush()
    record = await redis_store.vehicle(odd)
    assert record is not None
    assert record.last_seen_at == NOW
