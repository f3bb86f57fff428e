"""What vehicles can get wrong, or try, on the vehicle port: refused with the right status, counted, nothing changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from outrider.v1 import fleet_pb2, vehicle_pb2

from signing.keys import generate_ecu_key
from tests.e2e.conftest import RELEASE
from tests.processes import CALL_TIMEOUT_S, Installation, eventually
from tests.vehicles import AVehicle, Refusal, enrolled, issue, offered, refusal

REFUSED = "outrider_refused_requests_total"


@pytest.fixture(scope="module")
def rollout(installation: Installation) -> str:
    """A running rollout over a region of these tests."""
    plan = f"release: {RELEASE}\nholdout: 0%\ntarget: {{region: [rogue]}}\nwaves: [{{name: all}}]\n"
    (first,) = enrolled(installation, AVehicle("rogue-0", region="rogue"))
    installation.must("rollout", "start", installation.write("rogue.yaml", plan), "--yes", "--id", "rogue")
    assert first.vehicle_id == "rogue-0"
    return "rogue"


def refused(call: Callable[[], Any]) -> Refusal:
    """What a call that must fail said."""
    with pytest.raises(grpc.RpcError) as error:
        call()
    return refusal(error.value)


def get(installation: Installation, vehicle_id: str) -> fleet_pb2.Vehicle:
    """A vehicle as operators see it."""
    request = fleet_pb2.GetVehicleRequest(name=f"vehicles/{vehicle_id}")
    return installation.api().fleet.GetVehicle(request, timeout=CALL_TIMEOUT_S)


def recorded(installation: Installation, kind: str, vehicle_id: str) -> list[str]:
    """Data of ledger entries of one kind about a vehicle."""
    with sqlite3.connect(f"file:{installation.data / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
        query = "SELECT data FROM entries WHERE kind = ? AND vehicle_id = ? ORDER BY seq"
        return [row[0] for row in ledger.execute(query, (kind, vehicle_id))]


@pytest.mark.uptane("D2")
def test_vehicle_cannot_speak_for_another(installation: Installation, rollout: str) -> None:
    """A stolen car must not be able to fail, or to start, an update of its neighbour."""
    victim, thief = enrolled(
        installation, AVehicle("rogue-victim", region="rogue"), AVehicle("rogue-thief", region="rogue")
    )
    attempt = offered(victim).attempt_id
    before = installation.metric(REFUSED, reason="identity_mismatch")
    foreign_event = refused(lambda: thief.check_in(thief.event(attempt, "FAILED", "evil")))
    foreign_permit = refused(lambda: thief.authorize(attempt))
    for answer in (foreign_event, foreign_permit):
        assert (answer.code, answer.reason, answer.domain) == (
            grpc.StatusCode.PERMISSION_DENIED,
            "IDENTITY_MISMATCH",
            "outrider",
        )
    assert installation.metric(REFUSED, reason="identity_mismatch") == before + 2
    (kept,) = get(installation, victim.vehicle_id).attempts
    assert kept.attempt_id == attempt
    assert not kept.HasField("permit_time")
    assert not kept.failure_code


MALFORMED: list[tuple[str, dict[str, Any]]] = [
    ("outbox_id", {"outbox_id": "no spaces please"}),
    ("oldest_number", {"oldest_number": -1}),
    ("manifest_sha256", {"manifest_sha256": "ABC"}),
    ("diagnostics", {"diagnostics": [vehicle_pb2.Diagnostic(code="U0100")] * 33}),
    ("events", {"events": [vehicle_pb2.Event(number=n, attempt_id="a.rogue-m.1", kind=1) for n in range(1, 66)]}),
    ("events[0].kind", {"events": [vehicle_pb2.Event(number=1, attempt_id="a.rogue-m.1")]}),
    ("events[0].kind", {"events": [vehicle_pb2.Event(number=1, attempt_id="a.rogue-m.1", kind=99)]}),
    ("events[0].number", {"events": [vehicle_pb2.Event(number=0, attempt_id="a.rogue-m.1", kind=1)]}),
    ("events[0].number", {"events": [vehicle_pb2.Event(number=2**53, attempt_id="a.rogue-m.1", kind=1)]}),
    (
        "events[1].number",
        {"events": [vehicle_pb2.Event(number=2, attempt_id="a.rogue-m.1", kind=1) for _ in range(2)]},
    ),
    ("events[0].attempt_id", {"events": [vehicle_pb2.Event(number=1, attempt_id="nonsense", kind=1)]}),
    (
        "events[0].failure_code",
        {"events": [vehicle_pb2.Event(number=1, attempt_id="a.rogue-m.1", kind=7, failure_code="No Way")]},
    ),
]


def test_malformed_check_in_is_refused_by_the_name_of_its_field(installation: Installation) -> None:
    """Whoever writes an agent must learn from the answer what to mend."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-m"))
    before = installation.metric(REFUSED, reason="malformed")
    for name, changes in MALFORMED:
        if "outbox_id" in changes:
            vehicle.outbox_id = ""
        answer = refused(lambda changes=changes: vehicle.check_in(**changes))
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED"), name
        assert list(answer.fields) == [name]
        vehicle.outbox_id = "good"
    assert installation.metric(REFUSED, reason="malformed") == before + len(MALFORMED)
    assert vehicle.check_in().acknowledged_number == 0, "nothing was taken"


@pytest.mark.uptane("A13", "A28")
def test_oversized_messages_are_refused(installation: Installation) -> None:
    """A vehicle must not be able to make a worker hold megabytes, and a manifest has a cap of its own."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-big"))
    huge = refused(lambda: vehicle.submit(b"x" * (2 * 1024 * 1024)))
    assert huge.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    large = refused(lambda: vehicle.submit(b"x" * (64 * 1024 + 1)))
    assert (large.code, large.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OVERSIZED")
    empty = refused(lambda: vehicle.submit(b""))
    assert (empty.code, empty.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OVERSIZED")
    assert vehicle.check_in().HasField("directive"), "and it is served as before"


def forged(vehicle: AVehicle) -> bytes:
    return vehicle.manifest(signer=generate_ecu_key())


def forged_secondary(vehicle: AVehicle) -> bytes:
    return vehicle.manifest(keys={vehicle.secondary: vehicle.primary_key})


def foreign(vehicle: AVehicle) -> bytes:
    return vehicle.manifest(vehicle_id="rogue-other")


def incomplete(vehicle: AVehicle) -> bytes:
    vehicle.counter += 1
    return vehicle.manifest(reports=[vehicle.report(vehicle.primary, counter=vehicle.counter + 1)])


def unknown_ecu(vehicle: AVehicle) -> bytes:
    stranger = replace(vehicle.report(vehicle.primary, counter=vehicle.counter + 1), ecu_serial="stranger")
    reports = [vehicle.report(serial, counter=vehicle.counter + 1) for serial in vehicle.keys]
    return vehicle.manifest(reports=[*reports, stranger], keys={"stranger": generate_ecu_key()})


def replayed(vehicle: AVehicle) -> bytes:
    reports = [vehicle.report(serial, counter=1, attack="x") for serial in vehicle.keys]
    return vehicle.manifest(reports=reports)


def stale(vehicle: AVehicle) -> bytes:
    long_ago = vehicle.fleet_time.replace(microsecond=0) - timedelta(days=31)
    reports = [vehicle.report(serial, counter=vehicle.counter + 1, time=long_ago) for serial in vehicle.keys]
    return vehicle.manifest(reports=reports)


def not_json(vehicle: AVehicle) -> bytes:
    return b"not a manifest of " + vehicle.vehicle_id.encode()


@pytest.mark.uptane("A21", "D3")
@pytest.mark.parametrize(
    ("make", "code"),
    [
        (forged, "MANIFEST_FORGED"),
        (forged_secondary, "REPORT_FORGED"),
        (foreign, "WRONG_VEHICLE"),
        (incomplete, "ECU_MISSING"),
        (unknown_ecu, "ECU_UNKNOWN"),
        (replayed, "REPLAY"),
        (stale, "STALE"),
        (not_json, "MALFORMED"),
    ],
)
def test_manifest_that_does_not_verify_is_dropped_and_recorded(
    installation: Installation, make: Callable[[AVehicle], bytes], code: str
) -> None:
    """The truth about a fleet rests on manifests: one lie accepted would settle an attempt that never happened."""
    (vehicle,) = enrolled(installation, AVehicle(f"rogue-{code.lower().replace('_', '-')}"))
    vehicle.check_in()
    good = vehicle.attest()
    refused_before = installation.metric("outrider_manifests_total", outcome="refused")
    counted_before = installation.metric(REFUSED, reason=code.lower())
    bad = make(vehicle)
    answer = refused(lambda: vehicle.submit(bad))
    assert (answer.code, answer.reason, answer.domain) == (grpc.StatusCode.INVALID_ARGUMENT, code, "outrider")
    assert installation.metric("outrider_manifests_total", outcome="refused") == refused_before + 1
    assert installation.metric(REFUSED, reason=code.lower()) == counted_before + 1
    kept = vehicle.check_in(manifest_sha256=good.manifest_sha256)
    assert not kept.manifest_wanted, "the good one is still on record"
    entries = eventually(lambda: recorded(installation, "manifest_refused", vehicle.vehicle_id), what="it is recorded")
    assert len(entries) == 1
    assert f'"code":"{code.lower()}"' in entries[0].replace(" ", "")


@pytest.mark.uptane("A21", "A23")
def test_refused_manifest_does_not_change_the_installed_release(installation: Installation) -> None:
    """A thief who forges "I run the new release" must not pull the vehicle out of the rollout."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-liar", region="rogue-liar"))
    vehicle.check_in()
    vehicle.attest()
    request = vehicle_pb2.FetchMetadataRequest(repository=vehicle_pb2.REPOSITORY_IMAGE, names=["timestamp.json"])
    assert vehicle.stub.FetchMetadata(request, timeout=CALL_TIMEOUT_S).files
    before = get(installation, vehicle.vehicle_id).installed_release
    claimed = [
        vehicle.report(serial, path=f"{serial}-{RELEASE}.img", counter=vehicle.counter + 1) for serial in vehicle.keys
    ]
    lie = vehicle.manifest(reports=claimed, signer=generate_ecu_key())
    assert refused(lambda: vehicle.submit(lie)).reason == "MANIFEST_FORGED"
    assert get(installation, vehicle.vehicle_id).installed_release == before == ""


def test_manifest_handed_in_twice_is_taken_once(installation: Installation) -> None:
    """A lost reply is repeated: the second time must not look like a replay."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-twice"))
    vehicle.check_in()
    manifest = vehicle.manifest()
    assert vehicle.submit(manifest) == vehicle.submit(manifest)


@pytest.mark.uptane("D1")
def test_unknown_metadata_is_not_found(installation: Installation) -> None:
    """NOT_FOUND is what ends a vehicle's walk up the roots: nothing else may say so, and it must say it."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-meta"))
    vehicle.check_in()
    assert list(vehicle.fetch("DIRECTOR", "1.root.json", "timestamp.json")) == ["1.root.json", "timestamp.json"]
    assert list(vehicle.fetch("IMAGE", "1.root.json", "timestamp.json")) == ["1.root.json", "timestamp.json"]
    for repository, name in (
        ("DIRECTOR", "2.root.json"),
        ("IMAGE", "2.root.json"),
        ("IMAGE", "../../authorities/server.key"),
        ("IMAGE", "/etc/passwd"),
    ):
        answer = refused(lambda repository=repository, name=name: vehicle.fetch(repository, name))
        assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "METADATA_UNKNOWN")
    for names, repository in (([], "IMAGE"), (["x.json"] * 17, "IMAGE"), (["timestamp.json"], "UNSPECIFIED")):
        answer = refused(lambda repository=repository, names=names: vehicle.fetch(repository, *names))
        assert (answer.code, answer.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED")


def test_permit_for_nonsense_is_malformed_and_for_a_stranger_attempt_refused(
    installation: Installation, rollout: str
) -> None:
    """A vehicle that lost its memory must be told to forget the attempt, not to ask for ever."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-amnesia"))
    answer = refused(lambda: vehicle.authorize("nonsense"))
    assert (answer.code, list(answer.fields)) == (grpc.StatusCode.INVALID_ARGUMENT, ["attempt_id"])
    never = vehicle.authorize(f"{rollout}.{vehicle.vehicle_id}.1")
    assert never.refusal.reason == "unknown_attempt"
    assert not never.refusal.HasField("retry_after")


def test_revoked_vehicle_is_refused_within_two_seconds(installation: Installation) -> None:
    """A stolen key must be worthless as soon as somebody says so, in every worker and on open connections."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-stolen"))
    vehicle.check_in()
    request = fleet_pb2.RevokeVehicleRequest(name=f"vehicles/{vehicle.vehicle_id}", reason="stolen")
    assert installation.api().fleet.RevokeVehicle(request, timeout=CALL_TIMEOUT_S).revoked

    def is_refused() -> bool:
        try:
            vehicle.check_in()
        except grpc.RpcError as error:
            said = refusal(error)
            return (said.code, said.reason) == (grpc.StatusCode.PERMISSION_DENIED, "VEHICLE_REVOKED")
        return False

    eventually(is_refused, timeout_s=2.0, what="a revoked vehicle is refused")
    for call in (vehicle.attest, lambda: vehicle.authorize("a.rogue-stolen.1"), lambda: vehicle.fetch("IMAGE", "x")):
        assert refused(call).reason == "VEHICLE_REVOKED"
    assert get(installation, vehicle.vehicle_id).revoked


@pytest.mark.uptane("D2", "D7")
def test_vehicle_out_of_the_inventory_is_not_served(installation: Installation) -> None:
    """A certificate alone is no vehicle: without its control units nothing could be verified or assigned."""
    (vehicle,) = enrolled(installation, AVehicle("rogue-known"))
    ghost = AVehicle("rogue-ghost")
    ghost.certificate_chain = issue(installation.data / "authorities", ghost)
    ghost.connect(installation)
    answer = refused(ghost.check_in)
    assert (answer.code, answer.reason) == (grpc.StatusCode.NOT_FOUND, "VEHICLE_UNKNOWN")
    assert vehicle.check_in().HasField("fleet_time")
