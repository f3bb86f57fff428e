"""Windows, consent and conditions against the running service: who may install when, and what is said otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from outrider.v1 import fleet_pb2, ledger_pb2, ledger_pb2_grpc, rollout_pb2, vehicle_pb2

from tests.e2e.conftest import RELEASE
from tests.processes import CALL_TIMEOUT_S, Installation, eventually, read_identity
from tests.vehicles import AVehicle, enrolled, offered

HOUR = timedelta(hours=1)


def vehicle_in(installation: Installation, region: str, rules: str) -> tuple[AVehicle, str]:
    """A vehicle in a region of its own with everything downloaded, under a plan with these rules; its attempt."""
    (vehicle,) = enrolled(installation, AVehicle(f"{region}-1", region=region))
    vehicle.check_in()
    vehicle.attest()
    start(installation, region, rules.format(**clock(vehicle.fleet_time)))
    attempt = offered(vehicle).attempt_id
    vehicle.check_in(vehicle.event(attempt, "DOWNLOAD_STARTED"), vehicle.event(attempt, "DOWNLOAD_FINISHED"))
    return vehicle, attempt


def start(installation: Installation, region: str, rules: str) -> None:
    plan = f"release: {RELEASE}\nholdout: 0%\ntarget: {{region: [{region}]}}\nwaves: [{{name: all}}]\n{rules}\n"
    request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id=region, reason="test")
    installation.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)


def clock(now: datetime | None) -> dict[str, str]:
    """Times of day around now, by the clock of a dashboard in UTC."""
    assert now is not None
    moments = {"before": now - HOUR, "soon": now + HOUR, "later": now + 6 * HOUR, "much_later": now + 7 * HOUR}
    return {name: f'"{moment:%H:%M}"' for name, moment in moments.items()}


def ask(vehicle: AVehicle, attempt: str, **changes: object) -> vehicle_pb2.AuthorizeInstallResponse:
    """Ask for a permit, with conditions or consent."""
    request = vehicle_pb2.AuthorizeInstallRequest(attempt_id=attempt, **changes)  # type: ignore[arg-type]
    response: vehicle_pb2.AuthorizeInstallResponse = vehicle.stub.AuthorizeInstall(request, timeout=CALL_TIMEOUT_S)
    return response


def explained(installation: Installation, vehicle: AVehicle) -> fleet_pb2.Explanation:
    """Why, for the one rollout of the vehicle's region."""
    request = fleet_pb2.ExplainVehicleRequest(
        name=f"vehicles/{vehicle.vehicle_id}", rollout=f"rollouts/{vehicle.region}"
    )
    [explanation] = installation.api().fleet.ExplainVehicle(request, timeout=CALL_TIMEOUT_S).explanations
    return explanation


def entries(installation: Installation, vehicle: AVehicle) -> Sequence[ledger_pb2.LedgerEntry]:
    """What the ledger has about a vehicle."""
    channel = installation.channel("operators", *read_identity(installation.data / "operators" / "admin"))
    request = ledger_pb2.ListLedgerEntriesRequest(vehicle=f"vehicles/{vehicle.vehicle_id}", page_size=1000)
    stub = ledger_pb2_grpc.LedgerServiceStub(channel)
    found: Sequence[ledger_pb2.LedgerEntry] = stub.ListLedgerEntries(request, timeout=CALL_TIMEOUT_S).entries
    return found


def test_vehicle_outside_its_window_is_refused_until_it_opens_and_explain_says_when(
    installation: Installation,
) -> None:
    """It downloads by day and installs by night: nobody's car stands still at noon."""
    vehicle, attempt = vehicle_in(installation, "nights", "windows: [{{from: {later}, to: {much_later}}}]")
    refusal = ask(vehicle, attempt).refusal
    assert refusal.reason == "window_closed"
    # Until the opening, and at most a quarter of the window longer: a fleet must not come in one second.
    assert timedelta(hours=5, minutes=58) < refusal.retry_after.ToTimedelta() < timedelta(hours=6, minutes=16)
    explanation = explained(installation, vehicle)
    assert explanation.reason == "window_closed"
    assert explanation.facts["zone"] == "UTC"


def test_permit_inside_a_window_is_good_until_it_closes(installation: Installation) -> None:
    """A permit of many hours must not carry an installation into the morning's drive."""
    rules = "windows: [{{from: {before}, to: {soon}}}]\noffline_permit: 20h"
    vehicle, attempt = vehicle_in(installation, "evenings", rules)
    valid_for = ask(vehicle, attempt, offline=True).permit.valid_for.ToTimedelta()
    assert timedelta(minutes=50) < valid_for <= HOUR


def test_offline_permit_is_given_on_the_way_and_counted_after_an_abort(installation: Installation) -> None:
    """Half a day in which nothing calls it back: the directive allows it, and the operator can see what is out."""
    vehicle, attempt = vehicle_in(installation, "caves", "offline_permit: 12h\nconditions: {{parked: true}}")
    assert offered(vehicle).offline_permit.ToTimedelta() == 12 * HOUR
    driven = vehicle_pb2.Conditions(battery_percent=80)
    assert ask(vehicle, attempt, conditions=driven).refusal.reason == "not_parked"
    given = ask(vehicle, attempt, conditions=driven, offline=True)
    assert given.permit.valid_for.ToTimedelta() == 12 * HOUR
    assert "out of reach until" in explained(installation, vehicle).message
    rollouts, name = installation.api().rollouts, "rollouts/caves"
    rollouts.AbortRollout(rollout_pb2.AbortRolloutRequest(name=name, reason="test"), timeout=CALL_TIMEOUT_S)
    seen = rollouts.GetRollout(rollout_pb2.GetRolloutRequest(name=name), timeout=CALL_TIMEOUT_S)
    assert seen.outstanding_permits == 1
    left = seen.outstanding_permits_end_time.ToDatetime() - seen.fleet_time.ToDatetime()
    assert 11 * HOUR < left <= 12 * HOUR
    assert ask(vehicle, attempt, conditions=driven).HasField("permit"), "what was told cannot be untold"


def test_offline_permit_is_refused_by_a_plan_that_says_nothing_of_it(installation: Installation) -> None:
    """The default is that a halt reaches everybody within a quarter of an hour."""
    vehicle, attempt = vehicle_in(installation, "streets", "priority: 1")
    assert not offered(vehicle).HasField("offline_permit")
    assert ask(vehicle, attempt, offline=True).refusal.reason == "offline_not_allowed"


def test_freeze_day_refuses_whatever_the_windows_say(installation: Installation) -> None:
    """Christmas is no day for a workshop."""
    vehicle, attempt = vehicle_in(installation, "frozen", "freeze: [{{from: 2020-01-01, to: 2099-12-31}}]")
    refusal = ask(vehicle, attempt).refusal
    assert refusal.reason == "freeze_day"
    assert refusal.HasField("retry_after"), "the attempt is not over"


def test_owner_is_asked_and_the_answer_is_on_record(installation: Installation) -> None:
    """An update that needs consent never begins without it, and whoever asks later can be shown that it was given."""
    vehicle, attempt = vehicle_in(installation, "owners", "consent: required")
    assert offered(vehicle).consent == vehicle_pb2.CONSENT_POLICY_REQUIRED
    vehicle.check_in(vehicle.event(attempt, "DEFERRED", "consent_pending"))
    assert explained(installation, vehicle).reason == "consent_missing"
    assert ask(vehicle, attempt).refusal.reason == "consent_missing"
    assert ask(vehicle, attempt, consented=True).HasField("permit")
    eventually(
        lambda: any(entry.kind == "consent_given" for entry in entries(installation, vehicle)),
        what="consent is in the ledger",
    )


def test_conditions_of_the_plan_hold_at_the_moment_of_asking(installation: Installation) -> None:
    """What the vehicle says then counts, and what it does not say does not hold."""
    rules = "conditions: {{unmetered: true, parked: true, battery: 40%}}"
    vehicle, attempt = vehicle_in(installation, "garages", rules)
    assert offered(vehicle).preconditions.battery_percent_min == 40
    well = {"link_type": vehicle_pb2.LINK_TYPE_WIFI, "battery_percent": 80, "parked": True}
    for changed, reason in (
        ({"metered": True}, "link_metered"),
        ({"battery_percent": 39}, "battery_low"),
        ({"parked": False}, "not_parked"),
    ):
        conditions = vehicle_pb2.Conditions(**{**well, **changed})  # type: ignore[arg-type]
        assert ask(vehicle, attempt, conditions=conditions).refusal.reason == reason
    assert ask(vehicle, attempt).HasField("refusal"), "nothing told is nothing that holds"
    assert ask(vehicle, attempt, conditions=vehicle_pb2.Conditions(**well)).HasField("permit")  # type: ignore[arg-type]
