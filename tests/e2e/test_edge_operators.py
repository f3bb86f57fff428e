"""What operators can get wrong, against the running service: refused with the place, and nothing changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
import pytest
from outrider.v1 import fleet_pb2, release_pb2, rollout_pb2

from tests.e2e.conftest import RELEASE
from tests.processes import CALL_TIMEOUT_S, Installation
from tests.vehicles import AVehicle, fleet_csv, import_fleet, refusal


@pytest.fixture(scope="module")
def fleet(installation: Installation) -> Installation:
    """The installation with two vehicles in a region of their own."""
    import_fleet(installation, [AVehicle("op-1", region="ops"), AVehicle("op-2", region="ops", cohort="early")])
    return installation


def rollouts(installation: Installation) -> Sequence[str]:
    """Names of every rollout there is."""
    answer = installation.api().rollouts.ListRollouts(rollout_pb2.ListRolloutsRequest(), timeout=CALL_TIMEOUT_S)
    return [rollout.name for rollout in answer.rollouts]


def registered(installation: Installation) -> int:
    """How many vehicles there are."""
    request = fleet_pb2.ListVehiclesRequest(page_size=1)
    return int(installation.api().fleet.ListVehicles(request, timeout=CALL_TIMEOUT_S).registered_count)


@pytest.mark.parametrize(
    ("plan", "place", "words"),
    [
        ("release: 1.1.0\nwawes: []\n", "2:1", "wawes"),
        ("release: 1.1.0\nlimits:\n  in_flight: many\n", "3:14", "many"),
        (
            "release: 1.1.0\nwaves:\n  - {name: a, share: 50%}\n  - {name: b, share: 20%}\n",
            "4:5",
            "adds nobody",
        ),
        ("name: x\nrelease: 9.9.9\n", "2:10", "9.9.9"),
        ("name: x\n", "1:1", "`release` is missing"),
        ("release: [1.1.0\n", "2:1", ""),
    ],
    ids=["unknown field", "wrong type", "impossible wave", "release not registered", "no release", "not YAML"],
)
def test_faulty_plan_is_refused_at_its_place_and_starts_nothing(
    fleet: Installation, plan: str, place: str, words: str
) -> None:
    """A typo in a plan must cost a minute, not a fleet."""
    before = rollouts(fleet)
    api = fleet.api()
    for call, request in (
        (api.rollouts.PreviewRollout, rollout_pb2.PreviewRolloutRequest(plan=plan)),
        (api.rollouts.CreateRollout, rollout_pb2.CreateRolloutRequest(plan=plan, reason="test")),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=CALL_TIMEOUT_S)
        refused = refusal(error.value)
        assert (refused.code, refused.domain) == (grpc.StatusCode.INVALID_ARGUMENT, "outrider")
        assert words in refused.fields[place]
    assert rollouts(fleet) == before


def test_command_line_shows_a_faulty_plan_by_file_line_and_column(fleet: Installation) -> None:
    """The place must be one that an editor can jump to, the end one line with cause and remedy."""
    before = rollouts(fleet)
    file = fleet.write("faulty.yaml", "release: 1.1.0\nwaves: [{name: a, share: 50%}, {name: b, share: 20%}]\n")
    outcome = fleet.cli("rollout", "start", file, "--yes")
    assert outcome.exit_code == 2
    detail, error = outcome.stderr.strip().splitlines()
    assert detail.startswith(f"{file}:2:32: ")
    assert error.startswith("error: ")
    assert " -> " in error, "it says the remedy"
    assert rollouts(fleet) == before


def test_every_fault_of_a_plan_is_told_at_once(fleet: Installation) -> None:
    """Nobody wants to mend a file one answer at a time."""
    plan = "release: 1.1.0\nwawes: []\nholdout: lots\ngate: {alpha: 7}\n"
    request = rollout_pb2.CreateRolloutRequest(plan=plan, reason="test")
    with pytest.raises(grpc.RpcError) as error:
        fleet.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
    refused = refusal(error.value)
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.domain == "outrider"
    assert sorted(refused.fields) == ["2:1", "3:10", "4:15"]


def test_plan_that_targets_nobody_is_refused(fleet: Installation) -> None:
    """A rollout over nobody would look like one that works."""
    plan = "release: 1.1.0\ntarget: {region: [atlantis]}\n"
    request = rollout_pb2.CreateRolloutRequest(plan=plan, reason="test")
    before = rollouts(fleet)
    with pytest.raises(grpc.RpcError) as error:
        fleet.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
    assert refusal(error.value).code is grpc.StatusCode.FAILED_PRECONDITION
    assert refusal(error.value).reason == "TARGET_EMPTY"
    assert rollouts(fleet) == before


def test_csv_with_bad_rows_names_each_and_imports_none(fleet: Installation) -> None:
    """Half an import is worse than none: the file would have to be taken apart by hand."""
    good, twice, keyless = AVehicle("bad-1", region="ops"), AVehicle("bad-2", region="ops"), AVehicle("bad-3")
    lines = fleet_csv([good, twice, keyless]).splitlines()
    lines[3] = lines[3].replace(",ops,", ",some where,")
    lines[4] = lines[4].replace("false", "true")
    lines[6] = lines[6].rpartition(",")[0] + ",bm90IGEga2V5"
    file = fleet.write("bad.csv", "\n".join(lines) + "\n")
    before = registered(fleet)
    outcome = fleet.cli("fleet", "import", file)
    assert outcome.exit_code == 2
    for place in ("4:region", "4:primary", "5:region", "7:public_key"):
        assert f"{file}:{place}: " in outcome.stderr or f"{file}: {place}: " in outcome.stderr, outcome.stderr
    assert registered(fleet) == before
    with pytest.raises(grpc.RpcError) as error:
        fleet.api().fleet.GetVehicle(fleet_pb2.GetVehicleRequest(name="vehicles/bad-1"), timeout=CALL_TIMEOUT_S)
    assert refusal(error.value).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "0" * 64}, "IMAGE_MISMATCH"),
        ({"length_bytes": 12}, "IMAGE_MISMATCH"),
        ({"hardware_id": "acme-tcu-9"}, "IMAGE_MISMATCH"),
        ({"release_counter": 99}, "IMAGE_MISMATCH"),
        ({"path": "never-signed.img"}, "IMAGE_UNSIGNED"),
        ({"path": "../../authorities/server.key"}, "IMAGE_UNSIGNED"),
    ],
    ids=["hash", "length", "hardware", "counter", "unsigned", "path out of the repository"],
)
def test_release_that_differs_from_what_is_signed_is_refused(
    fleet: Installation, change: dict[str, Any], reason: str
) -> None:
    """The orchestrator cannot make software: only what the offline keys signed becomes a release."""
    api = fleet.api()
    signed = api.releases.GetRelease(release_pb2.GetReleaseRequest(name=f"releases/{RELEASE}"), timeout=CALL_TIMEOUT_S)
    image = release_pb2.Image()
    image.CopyFrom(signed.images[0])
    for name, value in change.items():
        setattr(image, name, value)
    request = release_pb2.CreateReleaseRequest(release=release_pb2.Release(version="6.6.6", images=[image]), reason="t")
    with pytest.raises(grpc.RpcError) as error:
        api.releases.CreateRelease(request, timeout=CALL_TIMEOUT_S)
    refused = refusal(error.value)
    assert (refused.code, refused.reason, refused.domain) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        reason,
        "outrider",
    )
    listed = api.releases.ListReleases(release_pb2.ListReleasesRequest(), timeout=CALL_TIMEOUT_S).releases
    assert [release.version for release in listed] == [RELEASE]


def test_release_is_immutable(fleet: Installation) -> None:
    """A version that vehicles run already must not come to mean something else."""
    api = fleet.api()
    signed = api.releases.GetRelease(release_pb2.GetReleaseRequest(name=f"releases/{RELEASE}"), timeout=CALL_TIMEOUT_S)
    fewer = release_pb2.Release(version=RELEASE, images=signed.images[:1])
    with pytest.raises(grpc.RpcError) as error:
        api.releases.CreateRelease(
            release_pb2.CreateReleaseRequest(release=fewer, reason="test"), timeout=CALL_TIMEOUT_S
        )
    assert refusal(error.value).reason == "RELEASE_IMMUTABLE"
    request = release_pb2.CreateReleaseRequest(release=signed, reason="test")
    again = api.releases.CreateRelease(request, timeout=CALL_TIMEOUT_S)
    assert again == signed


def test_viewer_may_look_and_nothing_else(fleet: Installation) -> None:
    """Who only watches dashboards must not be able to start or stop a rollout."""
    fleet.must("ca", "issue-operator", "vera", "--role", "viewer")
    api = fleet.api("vera")
    before = rollouts(fleet)
    seen = api.rollouts.ListRollouts(rollout_pb2.ListRolloutsRequest(), timeout=CALL_TIMEOUT_S).rollouts
    assert [rollout.name for rollout in seen] == before
    refused_before = fleet.metric("outrider_refused_requests_total", reason="role_too_low")
    plan = "release: 1.1.0\ntarget: {region: [ops]}\n"
    calls = [
        (api.rollouts.CreateRollout, rollout_pb2.CreateRolloutRequest(plan=plan, reason="try")),
        (api.rollouts.PauseRollout, rollout_pb2.PauseRolloutRequest(name="rollouts/x", reason="try")),
        (api.rollouts.ResumeRollout, rollout_pb2.ResumeRolloutRequest(name="rollouts/x", reason="try")),
        (api.rollouts.AbortRollout, rollout_pb2.AbortRolloutRequest(name="rollouts/x", reason="try")),
        (api.rollouts.ApproveWave, rollout_pb2.ApproveWaveRequest(name="rollouts/x", wave="all", reason="try")),
        (api.fleet.ImportVehicles, fleet_pb2.ImportVehiclesRequest(csv=b"x")),
        (api.fleet.CreateEnrollmentTokens, fleet_pb2.CreateEnrollmentTokensRequest(vehicle_ids=["op-1"])),
        (api.fleet.RevokeVehicle, fleet_pb2.RevokeVehicleRequest(name="vehicles/op-1", reason="try")),
        (api.releases.CreateRelease, release_pb2.CreateReleaseRequest()),
    ]
    for call, request in calls:
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=CALL_TIMEOUT_S)
        refused = refusal(error.value)
        assert (refused.code, refused.reason) == (grpc.StatusCode.PERMISSION_DENIED, "ROLE_TOO_LOW"), request
    refused_now = fleet.metric("outrider_refused_requests_total", reason="role_too_low")
    assert refused_now == refused_before + len(calls)
    assert rollouts(fleet) == before


def test_change_needs_a_reason_and_the_right_etag(fleet: Installation) -> None:
    """The ledger must say why, and nobody may overrule what they have not seen."""
    api = fleet.api()
    plan = "release: 1.1.0\ntarget: {region: [ops]}\n"
    request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id="etags", request_id="r-1", reason="test")
    created = api.rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
    # The evaluator may have looked in between, which raises the epoch.
    again = api.rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
    assert again.create_time == created.create_time, "the same request again"
    other = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id="etags", request_id="r-2", reason="test")
    for call, wrong, code in (
        (api.rollouts.CreateRollout, other, grpc.StatusCode.FAILED_PRECONDITION),
        (
            api.rollouts.PauseRollout,
            rollout_pb2.PauseRolloutRequest(name="rollouts/etags", reason="  "),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            api.rollouts.PauseRollout,
            rollout_pb2.PauseRolloutRequest(name="rollouts/etags", reason="stop", etag='"77"'),
            grpc.StatusCode.ABORTED,
        ),
        (
            api.rollouts.GetRollout,
            rollout_pb2.GetRolloutRequest(name="rollouts/never"),
            grpc.StatusCode.NOT_FOUND,
        ),
        (
            api.rollouts.GetRollout,
            rollout_pb2.GetRolloutRequest(name="ROLLOUT etags"),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(wrong, timeout=CALL_TIMEOUT_S)
        assert (refusal(error.value).code, refusal(error.value).domain) == (code, "outrider"), wrong
    # The service has a word as well: between two calls it may have let the rollout walk on, so it is seen again.
    for _ in range(5):
        seen = api.rollouts.GetRollout(rollout_pb2.GetRolloutRequest(name="rollouts/etags"), timeout=CALL_TIMEOUT_S)
        abort = rollout_pb2.AbortRolloutRequest(name="rollouts/etags", reason="test is over", etag=seen.etag)
        try:
            assert api.rollouts.AbortRollout(abort, timeout=CALL_TIMEOUT_S).last_reason == "test is over"
        except grpc.RpcError as error:
            if refusal(error).code is not grpc.StatusCode.ABORTED:
                raise
        else:
            return
    pytest.fail("what was seen last is always old")


def test_every_change_needs_a_reason(fleet: Installation) -> None:
    """A year later the ledger is all that is left of why."""
    api = fleet.api()
    plan = "release: 1.1.0\ntarget: {region: [ops]}\n"
    for call, request in (
        (api.rollouts.CreateRollout, rollout_pb2.CreateRolloutRequest(plan=plan, reason=" ")),
        (api.rollouts.ApproveWave, rollout_pb2.ApproveWaveRequest(name="rollouts/x", wave="all")),
        (api.releases.CreateRelease, release_pb2.CreateReleaseRequest(release=release_pb2.Release(version="9.9.9"))),
        (api.fleet.ImportVehicles, fleet_pb2.ImportVehiclesRequest(csv=b"x")),
        (api.fleet.CreateEnrollmentTokens, fleet_pb2.CreateEnrollmentTokensRequest(vehicle_ids=["op-1"])),
        (api.fleet.RevokeVehicle, fleet_pb2.RevokeVehicleRequest(name="vehicles/op-1")),
    ):
        with pytest.raises(grpc.RpcError) as error:
            call(request, timeout=CALL_TIMEOUT_S)
        assert refusal(error.value).reason == "REASON_MISSING", request


def test_oversized_operator_message_is_refused(fleet: Installation) -> None:
    """One call must not take the memory of all the others."""
    request = fleet_pb2.ImportVehiclesRequest(csv=b"x" * (5 * 1024 * 1024), reason="test")
    with pytest.raises(grpc.RpcError) as error:
        fleet.api().fleet.ImportVehicles(request, timeout=CALL_TIMEOUT_S)
    assert refusal(error.value).code is grpc.StatusCode.RESOURCE_EXHAUSTED
