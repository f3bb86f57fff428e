"""One vehicle's way through a release against the running service, and everything that may cut across it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from outrider.v1 import attempt_pb2, case_pb2, fleet_pb2, rollout_pb2, vehicle_pb2

from signing.verify import check_image
from tests.e2e.conftest import RELEASE
from tests.processes import CALL_TIMEOUT_S, Installation, eventually, some_images
from tests.vehicles import AVehicle, enrolled, installing, offered


def start(installation: Installation, region: str, rollout_id: str = "", more: str = "") -> None:
    """A running rollout of the release over a region, everybody at once; named like the region unless said."""
    plan = f"release: {RELEASE}\nholdout: 0%\ntarget: {{region: [{region}]}}\nwaves: [{{name: all}}]\n{more}"
    request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id=rollout_id or region, reason="test")
    installation.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)


def vehicles_in(installation: Installation, region: str, count: int = 1) -> Sequence[AVehicle]:
    """New enrolled vehicles in a region, with their first manifests handed in."""
    vehicles = enrolled(installation, *(AVehicle(f"{region}-{n}", region=region) for n in range(1, count + 1)))
    for vehicle in vehicles:
        vehicle.check_in()
        vehicle.attest()
    return vehicles


def downloaded(vehicle: AVehicle) -> str:
    """Take a vehicle up to the point of no return; its attempt."""
    attempt = offered(vehicle).attempt_id
    vehicle.check_in(vehicle.event(attempt, "DOWNLOAD_STARTED"), vehicle.event(attempt, "DOWNLOAD_FINISHED"))
    return attempt


def attempts(installation: Installation, vehicle: AVehicle) -> Sequence[attempt_pb2.Attempt]:
    """Every attempt of a vehicle, newest first."""
    request = fleet_pb2.GetVehicleRequest(name=f"vehicles/{vehicle.vehicle_id}")
    return installation.api().fleet.GetVehicle(request, timeout=CALL_TIMEOUT_S).attempts


def state(installation: Installation, vehicle: AVehicle) -> str:
    """State of a vehicle's latest attempt, for example `PERMITTED`."""
    number = attempts(installation, vehicle)[0].state
    return attempt_pb2.AttemptState.Name(number).removeprefix("ATTEMPT_STATE_")


def pause(installation: Installation, rollout_id: str) -> None:
    request = rollout_pb2.PauseRolloutRequest(name=f"rollouts/{rollout_id}", reason="a look at it")
    installation.api().rollouts.PauseRollout(request, timeout=CALL_TIMEOUT_S)


def resume(installation: Installation, rollout_id: str) -> None:
    request = rollout_pb2.ResumeRolloutRequest(name=f"rollouts/{rollout_id}", reason="looked at it")
    installation.api().rollouts.ResumeRollout(request, timeout=CALL_TIMEOUT_S)


def abort(installation: Installation, rollout_id: str) -> None:
    request = rollout_pb2.AbortRolloutRequest(name=f"rollouts/{rollout_id}", reason="enough")
    installation.api().rollouts.AbortRollout(request, timeout=CALL_TIMEOUT_S)


def cells(installation: Installation, rollout_id: str) -> Sequence[rollout_pb2.CellCounts]:
    """Counts of a rollout."""
    request = rollout_pb2.GetRolloutRequest(name=f"rollouts/{rollout_id}")
    return installation.api().rollouts.GetRollout(request, timeout=CALL_TIMEOUT_S).cells


def exposures(installation: Installation, rollout_id: str) -> int:
    """Permits that count."""
    return sum(cell.exposed for cell in cells(installation, rollout_id))


@pytest.mark.uptane("D1")
def test_vehicle_is_updated_and_every_record_agrees(installation: Installation, tmp_path: Path) -> None:
    """The whole way, with real signatures and real bytes; what five places say of it is the same."""
    (vehicle,) = vehicles_in(installation, "happy")
    vehicle.provision(installation, tmp_path / "held")
    start(installation, "happy")
    directive = offered(vehicle)
    assert (directive.rollout_id, directive.release) == ("happy", RELEASE)
    assert directive.state == attempt_pb2.ATTEMPT_STATE_OFFERED

    images = vehicle.verify().images
    wanted = {image.hardware_id: image.content for image in some_images(RELEASE)}
    assert {serial for image in images for serial in image.ecu_serials} == {vehicle.primary, vehicle.secondary}
    for image in images:
        path = (
            f"{directive.image_base_urls[0].removeprefix(installation.endpoints['images'])}/{image.sha256}.{image.path}"
        )
        first, rest = installation.get_image(path, "bytes=0-99"), installation.get_image(path, "bytes=100-")
        assert (first[0], rest[0]) == (206, 206)
        check_image(image, first[1] + rest[1])
        assert first[1] + rest[1] == wanted[image.hardware_id]

    attempt = directive.attempt_id
    vehicle.check_in(vehicle.event(attempt, "DOWNLOAD_STARTED"), vehicle.event(attempt, "DOWNLOAD_FINISHED"))
    assert state(installation, vehicle) == "DOWNLOADED"
    permit = vehicle.authorize(attempt).permit
    assert permit.attempt_id == attempt
    assert 0 < permit.valid_for.ToTimedelta().total_seconds() <= 900
    answer = vehicle.check_in(
        vehicle.event(attempt, "INSTALL_STARTED"),
        vehicle.event(attempt, "REBOOT_STARTED"),
        vehicle.event(attempt, "VERIFY_STARTED"),
    )
    assert answer.acknowledged_number == 5
    assert state(installation, vehicle) == "VERIFYING"
    vehicle.install(images)
    attested = vehicle.attest()
    assert attested.installed_release == RELEASE
    assert attested.attempt_state == attempt_pb2.ATTEMPT_STATE_SUCCEEDED
    after = vehicle.check_in(manifest_sha256=attested.manifest_sha256)
    assert after.directive.WhichOneof("kind") == "none"
    assert not after.manifest_wanted

    shown = installation.must("rollout", "status", "happy")
    (cell,) = shown["cells"]
    assert (cell["states"], cell["exposed"]) == ({"succeeded": "1"}, "1")
    assert installation.must("vehicle", "show", vehicle.vehicle_id)["installed_release"] == RELEASE
    assert state(installation, vehicle) == "SUCCEEDED"

    def settled() -> bool:
        where = {"rollout": "happy", "region": "happy", "hardware": "gen2"}
        return (
            installation.metric("outrider_attempts", **where, state="succeeded") == 1
            and installation.metric("outrider_exposures", **where) == 1
        )

    eventually(settled, what="the evaluator's next tick shows it")
    assert installation.must("ledger", "outcomes", "happy")["states"] == {"succeeded": 1}
    assert installation.must("ledger", "verify")["ok"]


@pytest.mark.uptane("A23")
def test_manifest_alone_decides_not_what_the_vehicle_says(installation: Installation) -> None:
    """An agent that reports every step and still runs the old software has not been updated."""
    (vehicle,) = vehicles_in(installation, "liar")
    start(installation, "liar")
    attempt = downloaded(vehicle)
    assert vehicle.authorize(attempt).HasField("permit")
    vehicle.check_in(
        *(vehicle.event(attempt, kind) for kind in ("INSTALL_STARTED", "REBOOT_STARTED", "VERIFY_STARTED"))
    )
    answer = vehicle.attest()
    assert answer.installed_release == ""
    assert answer.attempt_state == attempt_pb2.ATTEMPT_STATE_ROLLED_BACK


def test_pause_stops_permits_at_once_and_grants_too(installation: Installation) -> None:
    """Who presses pause must not see one more vehicle begin, and nobody may lose what they have."""
    ready, late = vehicles_in(installation, "pause", 2)
    start(installation, "pause")
    attempt = downloaded(ready)
    before = installation.metric("outrider_permits_total", outcome="rollout_paused")
    pause(installation, "pause")
    refused = ready.authorize(attempt)
    assert refused.refusal.reason == "rollout_paused"
    assert refused.refusal.retry_after.ToTimedelta().total_seconds() > 0
    assert installation.metric("outrider_permits_total", outcome="rollout_paused") == before + 1
    assert late.check_in().directive.WhichOneof("kind") == "none"
    assert installing(ready.check_in()).attempt_id == attempt, "nothing was taken back"
    assert exposures(installation, "pause") == 0
    resume(installation, "pause")
    assert ready.authorize(attempt).HasField("permit")
    assert offered(late).attempt_id == "pause.pause-2.1"
    assert exposures(installation, "pause") == 1


def test_abort_withdraws_what_has_no_permit_and_lets_the_rest_finish(
    installation: Installation, tmp_path: Path
) -> None:
    """A running install that is cut off is worse than one too many."""
    ready, running = vehicles_in(installation, "abort", 2)
    running.provision(installation, tmp_path / "held")
    start(installation, "abort")
    doomed, permitted = downloaded(ready), offered(running).attempt_id
    images = running.verify().images
    assert running.authorize(permitted).HasField("permit")
    abort(installation, "abort")
    refused = ready.authorize(doomed).refusal
    assert refused.reason in ("fenced", "rollout_over")
    assert not refused.HasField("retry_after"), "never again"

    def withdrawn() -> vehicle_pb2.WithdrawDirective:
        directive = ready.check_in().directive
        assert directive.WhichOneof("kind") == "withdraw"
        return directive.withdraw

    assert eventually(withdrawn, timeout_s=2.0).attempt_id == doomed
    assert state(installation, ready) == "WITHDRAWN"
    assert ready.check_in().directive.WhichOneof("kind") == "none"
    assert installing(running.check_in()).attempt_id == permitted
    running.check_in(*(running.event(permitted, kind) for kind in ("INSTALL_STARTED", "REBOOT_STARTED")))
    running.install(images)
    assert running.attest().attempt_state == attempt_pb2.ATTEMPT_STATE_SUCCEEDED


def test_withdrawn_vehicle_is_assigned_nothing_any_more(installation: Installation, tmp_path: Path) -> None:
    """The Director's word must follow the withdrawal: what it signs is what a vehicle may install."""
    (vehicle,) = vehicles_in(installation, "unassign")
    vehicle.provision(installation, tmp_path / "held")
    start(installation, "unassign")
    offered(vehicle)
    assert len(vehicle.verify().images) == 2
    abort(installation, "unassign")
    eventually(lambda: vehicle.check_in().directive.WhichOneof("kind") == "withdraw", timeout_s=2.0)
    assert vehicle.verify().images == ()


def test_repeated_check_in_acknowledges_the_same_and_grants_once(installation: Installation) -> None:
    """Replies get lost in garages: every call may come again, word for word."""
    (vehicle,) = vehicles_in(installation, "again")
    start(installation, "again")
    attempt = offered(vehicle).attempt_id
    events = [vehicle.event(attempt, "DOWNLOAD_STARTED"), vehicle.event(attempt, "DOWNLOAD_FINISHED")]
    first, second = vehicle.check_in(*events), vehicle.check_in(*events)
    assert first.acknowledged_number == second.acknowledged_number == 2
    assert installing(first).attempt_id == installing(second).attempt_id == attempt
    assert installing(second).state == attempt_pb2.ATTEMPT_STATE_DOWNLOADED
    assert [item.attempt_id for item in attempts(installation, vehicle)] == [attempt]


def test_repeated_permit_is_the_same_permit_and_one_exposure(installation: Installation) -> None:
    """A lost reply at the point of no return must neither strand the vehicle nor count it twice."""
    (vehicle,) = vehicles_in(installation, "permit")
    start(installation, "permit")
    attempt = downloaded(vehicle)
    first, second = vehicle.authorize(attempt), vehicle.authorize(attempt)
    assert first.HasField("permit")
    assert second.HasField("permit")
    assert second.permit.valid_for.ToTimedelta() <= first.permit.valid_for.ToTimedelta()
    pause(installation, "permit")
    assert vehicle.authorize(attempt).HasField("permit"), "it was given before the pause"
    assert exposures(installation, "permit") == 1
    assert eventually(lambda: installation.metric("outrider_exposures", rollout="permit")) == 1


def test_lost_outbox_starts_numbering_anew_and_loses_nothing(installation: Installation) -> None:
    """An agent whose memory was reset must not be ignored for ever because its numbers are low."""
    (vehicle,) = vehicles_in(installation, "reset")
    start(installation, "reset")
    attempt = offered(vehicle).attempt_id
    vehicle.check_in(vehicle.event(attempt, "DOWNLOAD_STARTED", number=41))
    vehicle.outbox_id, vehicle.next_event = "fresh", 1
    assert vehicle.check_in().acknowledged_number == 0
    assert vehicle.check_in(vehicle.event(attempt, "DOWNLOAD_FINISHED")).acknowledged_number == 1
    assert state(installation, vehicle) == "DOWNLOADED"


def test_failure_before_and_after_a_permit_are_told_apart(installation: Installation) -> None:
    """Only what had a permit hurts the gate and opens a case; the rest is shown apart."""
    early, late = vehicles_in(installation, "fail", 2)
    start(installation, "fail")
    refused, broken = offered(early).attempt_id, downloaded(late)
    early.check_in(early.event(refused, "REJECTED", "no_space"))
    assert late.authorize(broken).HasField("permit")
    late.check_in(late.event(broken, "INSTALL_STARTED"), late.event(broken, "FAILED", "flash_error"))
    assert state(installation, early) == "REJECTED"
    assert state(installation, late) == "FAILED"
    request = case_pb2.ListCasesRequest(rollout="rollouts/fail")
    (case,) = installation.api().cases.ListCases(request, timeout=CALL_TIMEOUT_S).cases
    assert (case.vehicle_id, case.cause, case.detail) == (late.vehicle_id, "failed", "flash_error")
    (cell,) = cells(installation, "fail")
    assert (cell.exposed, cell.failed) == (1, 1)


@pytest.mark.parametrize("kind", ["INSTALL_STARTED", "VERIFY_STARTED"])
def test_install_without_a_permit_is_no_exposure(installation: Installation, kind: str) -> None:
    """A vehicle that skips the permit must not be able to talk itself into the gate's denominator."""
    region = f"rash-{kind.partition('_')[0].lower()}"
    (vehicle,) = vehicles_in(installation, region)
    start(installation, region)
    attempt = downloaded(vehicle)
    assert vehicle.check_in(vehicle.event(attempt, kind)).acknowledged_number == 3, "heard, and ignored"
    assert state(installation, vehicle) == "DOWNLOADED"
    assert exposures(installation, region) == 0
