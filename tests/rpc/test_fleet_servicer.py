"""Fleet care and cases on the operator port: who may, what must be said, and what comes out, on the reference store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.message import Message
from outrider.v1 import case_pb2, fleet_pb2

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.model.attempt import AttemptEvent
from orchestrator.model.ids import VehicleId
from orchestrator.model.vehicle import Contact
from orchestrator.rpc.case_servicer import CaseServicer
from orchestrator.rpc.fleet_servicer import FleetServicer
from orchestrator.rpc.identity import IdentityReader
from orchestrator.service.cases import CaseDesk
from orchestrator.service.errors import ForbiddenError, InvalidInputError
from orchestrator.service.explain import ExplainDesk
from orchestrator.service.fleet import FleetDesk
from orchestrator.service.fleet_care import VEHICLES_MAX, FleetCareDesk
from orchestrator.service.snapshot import SnapshotKeeper
from orchestrator.store.memory import MemoryStore
from tests.builders import NOW, a_contact, a_vehicle, after
from tests.contracts.steps import V1, entries, permitted, running, tell
from tests.rpc.contexts import TRUST_DOMAIN, AContext, operator_certificate

VIEWER, OPERATOR = operator_certificate("vera", "viewer"), operator_certificate("ann", "operator")
CHANGES = (
    ("ImportVehicles", fleet_pb2.ImportVehiclesRequest(csv=b"x")),
    ("CreateEnrollmentTokens", fleet_pb2.CreateEnrollmentTokensRequest(vehicle_ids=["v-1"])),
    ("UpdateVehicles", fleet_pb2.UpdateVehiclesRequest(vehicle_ids=["v-1"], region="us")),
    ("RemoveVehicles", fleet_pb2.RemoveVehiclesRequest(vehicle_ids=["v-1"])),
    ("ExcludeVehicles", fleet_pb2.ExcludeVehiclesRequest(vehicle_ids=["v-1"])),
    ("ReadmitVehicles", fleet_pb2.ReadmitVehiclesRequest(vehicle_ids=["v-1"])),
    ("CloseCase", case_pb2.CloseCaseRequest(name="cases/spring.v-1.1")),
)


class Port:
    """Both servicers, as they stand in a worker."""

    def __init__(self) -> None:
        machine = MachineClock(monotonic_ns=lambda: NOW * 1_000_000, wall_ns=lambda: NOW * 1_000_000)
        self.store = MemoryStore(2, machine_ms=lambda: int(NOW))
        clock = FleetClock(origin=NOW, started_ms=NOW, scale=1.0, machine_ms=NOW, machine=machine)
        snapshots = SnapshotKeeper(self.store, clock, origin=NOW, scale=1.0)
        identities = IdentityReader(TRUST_DOMAIN, lambda _: False)
        self._fleet = FleetServicer(
            desk=FleetDesk(store=self.store, snapshots=snapshots, clock=clock, machine=machine, token_life_ms=1000),
            care=FleetCareDesk(store=self.store, clock=clock),
            explain=ExplainDesk(store=self.store, snapshots=snapshots, clock=clock),
            identities=identities,
        )
        self._cases = CaseServicer(CaseDesk(store=self.store, clock=clock), identities)

    async def ask(self, method: str, request: Message, *, by: bytes = OPERATOR) -> Any:
        """Call one method as somebody."""
        servicer: object = self._cases if "Case" in method else self._fleet
        call: Callable[[Message, AContext], Any] = getattr(servicer, method)
        return await call(request, AContext(certificate=by))


@pytest.fixture
async def port() -> Port:
    """A fleet of three, two of them in eu."""
    port = Port()
    vehicles = [a_vehicle("v-1"), a_vehicle("v-2", zone="Europe/Berlin"), a_vehicle("v-3", region="us")]
    await port.store.import_vehicles(vehicles, now=NOW)
    return port


@pytest.mark.parametrize(("method", "request_"), CHANGES)
async def test_change_needs_an_operator_and_a_reason(port: Port, method: str, request_: Message) -> None:
    """A viewer looks; and nobody changes a fleet without saying why."""
    given = type(request_)()
    given.CopyFrom(request_)
    given.reason = "because"  # type: ignore[attr-defined]
    with pytest.raises(ForbiddenError):
        await port.ask(method, given, by=VIEWER)
    with pytest.raises(InvalidInputError, match="a reason is required"):
        await port.ask(method, request_)


async def test_list_takes_a_filter_and_shows_all_that_is_known(port: Port) -> None:
    """Zone, exclusions, conditions and diagnoses come out as they went in."""
    await port.store.touch({VehicleId("v-2"): a_contact()})
    await port.ask("ExcludeVehicles", fleet_pb2.ExcludeVehiclesRequest(vehicle_ids=["v-2"], reason="lemon"))
    answer = await port.ask("ListVehicles", fleet_pb2.ListVehiclesRequest(filter="zone!=none"), by=VIEWER)
    (vehicle,) = answer.vehicles
    assert (vehicle.vehicle_id, vehicle.zone, vehicle.conditions.battery_percent) == ("v-2", "Europe/Berlin", 80)
    assert [each.code for each in vehicle.diagnostics] == ["U0100"]
    (exclusion,) = vehicle.exclusions
    assert (exclusion.rollout, exclusion.reason, exclusion.actor) == ("", "lemon", "ann")
    assert exclusion.create_time.ToMilliseconds() == NOW
    await port.store.touch({VehicleId("v-2"): Contact(at=after(1))})
    bare = await port.ask("GetVehicle", fleet_pb2.GetVehicleRequest(name="vehicles/v-2"), by=VIEWER)
    assert not bare.HasField("conditions")
    with pytest.raises(InvalidInputError, match="filter has 1 fault"):
        await port.ask("ListVehicles", fleet_pb2.ListVehiclesRequest(filter="colour=red"), by=VIEWER)


async def test_update_and_count_come_out_as_numbers(port: Port) -> None:
    """What changed, what was so already, and where the fleet is now."""
    request = fleet_pb2.UpdateVehiclesRequest(vehicle_ids=["v-1", "v-3"], region="us", add_tags=["taxi"], reason="x")
    await port.ask("UpdateVehicles", request)
    again = await port.ask("UpdateVehicles", request)
    assert (again.changed_count, again.unchanged_count) == (0, 2)
    counted = await port.ask("CountVehicles", fleet_pb2.CountVehiclesRequest(group_by=["region"]), by=VIEWER)
    assert [(dict(each.values), each.count) for each in counted.counts] == [
        ({"region": "us"}, 2),
        ({"region": "eu"}, 1),
    ]
    assert counted.total == 3
    assert {entry.data["actor"] for entry in await entries(port.store, "vehicle_changed")} == {"ann"}


async def test_denial_and_its_end_are_of_one_rollout(port: Port) -> None:
    """By resource name on the way in, and on the way out."""
    await running(port.store)
    deny = fleet_pb2.ExcludeVehiclesRequest(vehicle_ids=["v-1"], rollout="rollouts/spring", reason="bench")
    assert (await port.ask("ExcludeVehicles", deny)).changed_count == 1
    shown = await port.ask("GetVehicle", fleet_pb2.GetVehicleRequest(name="vehicles/v-1"), by=VIEWER)
    assert [each.rollout for each in shown.exclusions] == ["rollouts/spring"]
    said = await port.ask("ExplainVehicle", fleet_pb2.ExplainVehicleRequest(name="vehicles/v-1"), by=VIEWER)
    assert [(each.rollout, each.reason) for each in said.explanations] == [("rollouts/spring", "denied")]
    assert "bench" in said.summary
    lift = fleet_pb2.ReadmitVehiclesRequest(vehicle_ids=["v-1"], rollout="rollouts/spring", reason="done")
    assert (await port.ask("ReadmitVehicles", lift)).changed_count == 1


async def test_removal_says_how_many(port: Port) -> None:
    """And the vehicle is gone."""
    request = fleet_pb2.RemoveVehiclesRequest(vehicle_ids=["v-3"], reason="sold")
    assert (await port.ask("RemoveVehicles", request)).removed_count == 1
    assert await port.store.vehicle(VehicleId("v-3")) is None


async def test_tokens_for_everybody_are_those_of_a_call_or_none(port: Port) -> None:
    """A call that ends at its deadline has replaced tokens that were handed out, and nobody has the new ones."""
    everybody = fleet_pb2.CreateEnrollmentTokensRequest(reason="new build")
    answer = await port.ask("CreateEnrollmentTokens", everybody)
    assert sorted(each.vehicle_id for each in answer.tokens) == ["v-1", "v-2", "v-3"]
    more = [a_vehicle(f"w-{number}") for number in range(VEHICLES_MAX)]
    await port.store.import_vehicles(more, now=NOW)
    ids = [each.vehicle_id for each in (*more, a_vehicle("v-1"))]
    named = fleet_pb2.CreateEnrollmentTokensRequest(vehicle_ids=ids, reason="new build")
    for request in (everybody, named):
        with pytest.raises(InvalidInputError, match="more than 1000 vehicles; no token was made"):
            await port.ask("CreateEnrollmentTokens", request)
    (made,) = await port.store.journal("fleet", after="", count=10)
    assert (made.kind, made.data["count"]) == ("tokens_created", 3)
    named.vehicle_ids.pop()
    assert len((await port.ask("CreateEnrollmentTokens", named)).tokens) == VEHICLES_MAX


async def test_case_comes_with_advice_and_closes_with_who_and_why(port: Port) -> None:
    """A list has no advice: it would have to look into each."""
    await running(port.store)
    attempt = await permitted(port.store)
    await tell(port.store, attempt, AttemptEvent.FAILED, failure_code="flash_error")
    name = f"cases/{attempt.attempt_id}"
    (listed,) = (await port.ask("ListCases", case_pb2.ListCasesRequest(), by=VIEWER)).cases
    assert (listed.name, list(listed.advice)) == (name, [])
    shown = await port.ask("GetCase", case_pb2.GetCaseRequest(name=name), by=VIEWER)
    assert any("flash_error" in line for line in shown.advice)
    closed = await port.ask("CloseCase", case_pb2.CloseCaseRequest(name=name, reason="flashed"))
    assert (closed.close_actor, closed.close_reason, closed.vehicle_id) == ("ann", "flashed", V1)
    assert (await port.ask("ListCases", case_pb2.ListCasesRequest(), by=VIEWER)).open_count == 0


@pytest.mark.parametrize("name", ["spring.v-1.1", "cases/", "vehicles/v-1"])
async def test_name_of_something_else_is_no_case(port: Port, name: str) -> None:
    """The form is told."""
    with pytest.raises(InvalidInputError, match="cases/ATTEMPT"):
        await port.ask("GetCase", case_pb2.GetCaseRequest(name=name), by=VIEWER)
