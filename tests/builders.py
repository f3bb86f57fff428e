"""Builders of model values with defaults: a test names only what it is about.

Every builder takes the fields of its value by keyword; what is not named has a plausible default that fits the other
builders' defaults: vehicle `v-1` (region eu, hardware gen2, cohort canary) is in the first wave of `a_plan()`, has
ECUs that `a_release()` has images for, and is admitted by `a_rollout()`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.model.attempt import LIVE_STATES, Attempt, AttemptState, Try
from orchestrator.model.fleet import Cell, Ecu, Vehicle
from orchestrator.model.ids import (
    EcuSerial,
    FleetTime,
    HardwareId,
    ReleaseVersion,
    RolloutId,
    VehicleId,
    attempt_id,
)
from orchestrator.model.plan import GateLimits, Limits, Plan, RegionRules, Target, Wave
from orchestrator.model.release import Image, Release
from orchestrator.model.rollout import (
    Brake,
    BrakeKind,
    RegionPhase,
    RegionProgress,
    Rollout,
    RolloutStatus,
    Signal,
    SignalKind,
)
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.model.vehicle import (
    Conditions,
    Contact,
    Diagnostic,
    DirectorState,
    LinkType,
    Severity,
    VehicleRecord,
)
from orchestrator.store.base import PermitRequest, SlotRequest

NOW = FleetTime(1_767_225_600_000)
"""2026-01-01T00:00:00Z."""
SECOND_MS = 1_000
MINUTE_MS = 60_000
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

PRIMARY_HARDWARE = HardwareId("acme-gw-2")
SECONDARY_HARDWARE = HardwareId("acme-bcm-2")

DEADLINES_MS: Mapping[AttemptState, int] = {
    AttemptState.OFFERED: DAY_MS,
    AttemptState.DOWNLOADING: 7 * DAY_MS,
    AttemptState.DOWNLOADED: 7 * DAY_MS,
    AttemptState.PERMITTED: HOUR_MS,
    AttemptState.INSTALLING: 2 * HOUR_MS,
    AttemptState.REBOOTING: DAY_MS,
    AttemptState.VERIFYING: DAY_MS,
    AttemptState.DEFERRED: 14 * DAY_MS,
}

EXPOSED_LIVE_STATES = frozenset(
    {AttemptState.PERMITTED, AttemptState.INSTALLING, AttemptState.REBOOTING, AttemptState.VERIFYING}
)


def after(milliseconds: int, since: FleetTime = NOW) -> FleetTime:
    """Fleet time `milliseconds` after `since`."""
    return FleetTime(since + milliseconds)


def a_wave(
    name: str = "canary",
    *,
    cohorts: Sequence[str] = (),
    share: float = 1.0,
    soak_ms: int = DAY_MS,
    approvals: int = 0,
) -> Wave:
    """A wave; by default every cohort, all of them, a day of soak, no approval."""
    return Wave(name=name, cohorts=tuple(cohorts), share=share, soak_ms=soak_ms, approvals=approvals)


THREE_WAVES = (
    a_wave("canary", cohorts=("internal", "canary")),
    a_wave("early", cohorts=("early",)),
    a_wave("general"),
)


def a_gate(**changes: Any) -> GateLimits:
    """The default gate: 1 %, sample of 20, checkpoints at 24 h and 72 h."""
    gate = GateLimits(
        failure_ratio_max=0.01,
        sample_min=20,
        checkpoints_ms=(DAY_MS, 3 * DAY_MS),
        silence_reference=(0.05, 0.043),
        alpha=0.05,
    )
    return replace(gate, **changes)


def some_limits(**changes: Any) -> Limits:
    """The default limits."""
    limits = Limits(
        in_flight_max=1000,
        starts_per_minute_max=100,
        blast_budget=20,
        attempts_max=3,
        retry_backoff_ms=10 * MINUTE_MS,
        permit_valid_ms=15 * MINUTE_MS,
        patience_ms=14 * DAY_MS,
    )
    return replace(limits, **changes)


def a_plan(
    *,
    release: str = "1.1.0",
    regions: Sequence[str] | Mapping[str, RegionRules] = ("eu", "us"),
    waves: Sequence[Wave] = THREE_WAVES,
    gate: GateLimits | None = None,
    limits: Limits | None = None,
    **changes: Any,
) -> Plan:
    """A plan: release 1.1.0, regions eu and us, waves canary, early, general, no holdout."""
    rules = regions if isinstance(regions, Mapping) else {region: RegionRules(in_flight_max=1000) for region in regions}
    plan = Plan(
        release=ReleaseVersion(release),
        target=Target(),
        waves=tuple(waves),
        regions=rules,
        gate=gate or a_gate(),
        limits=limits or some_limits(),
        deadlines_ms=DEADLINES_MS,
        holdout_share=0.0,
        name="",
    )
    return replace(plan, **changes)


def a_rollout(
    *,
    rollout_id: str = "spring",
    plan: Plan | None = None,
    wave: int = 0,
    phase: RegionPhase = RegionPhase.ROLLING,
    **changes: Any,
) -> Rollout:
    """A running rollout of `a_plan()`, all its regions in `wave`, started now, epoch 1, fence 0."""
    plan = plan or a_plan()
    rollout = Rollout(
        rollout_id=RolloutId(rollout_id),
        plan=plan,
        plan_text=f"release: {plan.release}\n",
        salt=bytes(range(16)),
        status=RolloutStatus.RUNNING,
        epoch=1,
        fence=0,
        regions={region: RegionProgress(phase=phase, wave=wave, wave_started_at=NOW) for region in plan.regions},
        created_at=NOW,
        updated_at=NOW,
        actor="alice",
        reason="test",
        request_id="request-1",
    )
    return replace(rollout, **changes)


def a_signal(name: str = "tow_rate", **changes: Any) -> Signal:
    """A warning about all vehicles, within its limit."""
    signal = Signal(
        name=name,
        kind=SignalKind.WARNING,
        scope="all",
        value=2.0,
        limit=5.0,
        actor="tows",
        reason="call centre",
        at=NOW,
    )
    return replace(signal, **changes)


def a_brake(scope: str = "eu", kind: BrakeKind = BrakeKind.PAUSED, **changes: Any) -> Brake:
    """A part of a rollout that stands still."""
    return replace(Brake(scope=scope, kind=kind, since=NOW, actor="ann", reason="a look"), **changes)


def an_ecu(serial: str = "v-1-gw", *, hardware_id: str = PRIMARY_HARDWARE, primary: bool = True, key: str = "") -> Ecu:
    """A control unit; the key is only a placeholder unless given."""
    return Ecu(
        serial=EcuSerial(serial),
        hardware_id=HardwareId(hardware_id),
        public_key=key or f"key-of-{serial}",
        primary=primary,
    )


def a_vehicle(
    vehicle_id: str = "v-1",
    *,
    model: str = "S",
    hardware: str = "gen2",
    region: str = "eu",
    cohort: str = "canary",
    tags: Sequence[str] = (),
    ecus: Sequence[Ecu] | None = None,
    zone: str = "",
) -> Vehicle:
    """A vehicle with a Primary and a Secondary that `a_release()` has images for."""
    if ecus is None:
        ecus = (
            an_ecu(f"{vehicle_id}-bcm", hardware_id=SECONDARY_HARDWARE, primary=False),
            an_ecu(f"{vehicle_id}-gw"),
        )
    return Vehicle(
        vehicle_id=VehicleId(vehicle_id),
        model=model,
        hardware=hardware,
        region=region,
        cohort=cohort,
        tags=tuple(sorted(set(tags))),
        ecus=tuple(sorted(ecus, key=lambda ecu: ecu.serial)),
        zone=zone,
    )


def a_record(vehicle: Vehicle | None = None, **changes: Any) -> VehicleRecord:
    """What is hot about an enrolled vehicle that runs 1.0.0 and was never part of a rollout."""
    record = VehicleRecord(
        vehicle=vehicle or a_vehicle(),
        enrolled=True,
        installed=ReleaseVersion("1.0.0"),
        manifest_sha256="",
        manifest_counter=0,
        outbox_id="",
        acknowledged_number=0,
        director=DirectorState(),
        tries={},
        attempt=None,
        last_seen_at=None,
    )
    return replace(record, **changes)


def some_conditions(**changes: Any) -> Conditions:
    """Parked at home: wireless LAN, battery 80 %, 4 GB free."""
    conditions = Conditions(
        link=LinkType.WIFI,
        signal_percent=70,
        metered=False,
        battery_percent=80,
        parked=True,
        storage_free_bytes=4_000_000_000,
    )
    return replace(conditions, **changes)


def a_diagnostic(severity: Severity = Severity.CRITICAL, *, code: str = "U0100", at: FleetTime = NOW) -> Diagnostic:
    """A trouble code of v-1's gateway."""
    return Diagnostic(code=code, ecu_serial="v-1-gw", severity=severity, first_seen_at=at)


def a_contact(at: FleetTime = NOW) -> Contact:
    """A call of a vehicle that stands well but tells a critical diagnosis."""
    return Contact(at=at, conditions=some_conditions(), diagnostics=(a_diagnostic(),))


def a_cell(region: str = "eu", hardware: str = "gen2", cohort: str = "canary") -> Cell:
    """The cell of `a_vehicle()`."""
    return Cell(region=region, hardware=hardware, cohort=cohort)


def an_attempt(
    state: AttemptState = AttemptState.OFFERED,
    *,
    vehicle_id: str = "v-1",
    rollout_id: str = "spring",
    number: int = 1,
    exposed: bool | None = None,
    **changes: Any,
) -> Attempt:
    """An attempt of vehicle v-1 at rollout spring, granted and in its state since NOW.

    Args:
        state: Where it stands.
        vehicle_id: Whose.
        rollout_id: At what.
        number: Which try.
        exposed: Whether a permit was issued; None follows from the state.
        changes: Any other field.
    """
    if exposed is None:
        exposed = state in EXPOSED_LIVE_STATES or state in (AttemptState.SUCCEEDED, AttemptState.ROLLED_BACK)
    rollout, vehicle = RolloutId(rollout_id), VehicleId(vehicle_id)
    attempt = Attempt(
        attempt_id=attempt_id(rollout, vehicle, number),
        rollout_id=rollout,
        vehicle_id=vehicle,
        number=number,
        release=ReleaseVersion("1.1.0"),
        cell=a_cell(),
        epoch=1,
        state=state,
        state_at=NOW,
        deadline_at=FleetTime(NOW + DEADLINES_MS[state]) if state in LIVE_STATES else None,
        granted_at=NOW,
        permitted_at=NOW if exposed else None,
        failure_code="",
        deadlines_ms=DEADLINES_MS,
        checkpoints_ms=(DAY_MS, 3 * DAY_MS),
        aged=(False, False),
        silent=(False, False),
    )
    return replace(attempt, **changes)


def a_slot_request(region: str = "eu", **changes: Any) -> SlotRequest:
    """What a grant of a rollout at epoch 1 asks for, with wide limits."""
    request = SlotRequest(
        cell=a_cell(region), epoch=1, region_max=1000, total_max=1000, quota=None, transfer_ms=0, now=NOW
    )
    return replace(request, **changes)


def a_permit_request(region: str = "eu", **changes: Any) -> PermitRequest:
    """What a vehicle granted at epoch 1 asks for, with wide limits."""
    request = PermitRequest(
        cell=a_cell(region),
        attempt_epoch=1,
        region_max=1000,
        total_max=1000,
        starts_per_minute_max=1000,
        region_starts_per_minute_max=1000,
        valid_ms=HOUR_MS,
        now=NOW,
    )
    return replace(request, **changes)


def a_try(state: AttemptState, *, number: int = 1, exposed: bool = False, state_at: FleetTime = NOW) -> Try:
    """What a record keeps of an attempt."""
    return Try(number=number, state=state, state_at=state_at, exposed=exposed)


def an_image(hardware_id: str = PRIMARY_HARDWARE, *, version: str = "1.1.0", release_counter: int = 2) -> Image:
    """An image of a release, with a made-up digest."""
    return Image(
        path=f"{hardware_id}-{version}.img",
        hardware_id=HardwareId(hardware_id),
        length_bytes=4096,
        sha256=f"{len(hardware_id):02x}" * 32,
        release_counter=release_counter,
    )


def a_release(
    version: str = "1.1.0", *, hardware_ids: Sequence[str] = (SECONDARY_HARDWARE, PRIMARY_HARDWARE), **changes: Any
) -> Release:
    """A release with one image a hardware id."""
    release = Release(
        version=ReleaseVersion(version),
        images=tuple(an_image(hardware_id, version=version) for hardware_id in sorted(hardware_ids)),
        notes="",
        created_at=NOW,
        targets_version=1,
    )
    return replace(release, **changes)


def a_tally(
    *,
    before: Mapping[AttemptState, int] | None = None,
    aged: Sequence[Sequence[int]] = ((0, 0), (0, 0)),
    **after_permit: int,
) -> Tally:
    """Counts; exposures by the name of their state: `a_tally(succeeded=30, failed=1, aged=((31, 0), (0, 0)))`.

    Args:
        before: Attempts without a permit, by state.
        aged: By checkpoint: exposures that reached it, and the silent ones; then controls, likewise, if any.
        after_permit: Exposures by state.
    """
    return Tally(
        before_permit=dict(before or {}),
        after_permit={AttemptState(name): count for name, count in after_permit.items()},
        age_groups=tuple(AgeGroup(*group) for group in aged),
    )
