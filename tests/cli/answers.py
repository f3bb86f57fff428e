"""Builders of answers, with defaults that make sense together."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1 import attempt_pb2, case_pb2, fleet_pb2, release_pb2, rollout_pb2, vehicle_pb2

from tests.cli.server import FLEET_TIME


def ago(**span: float) -> Timestamp:
    """A moment that long before the server's fleet time."""
    moment = Timestamp()
    moment.FromDatetime(FLEET_TIME - timedelta(**span))
    return moment


def an_age_group(
    hours: float, exposed: int, silent: int, controls: int = 0, controls_silent: int = 0, **unpaired: int
) -> rollout_pb2.AgeGroup:
    group = rollout_pb2.AgeGroup(
        exposed=exposed, silent=silent, controls=controls, controls_silent=controls_silent, **unpaired
    )
    group.age.FromTimedelta(timedelta(hours=hours))
    return group


def a_brake(scope: str = "eu/gen1", kind: str = "HALTED", **changes: object) -> rollout_pb2.Brake:
    values: dict[str, object] = {
        "actor": "gate",
        "reason": f"{scope}: 5 of 25 exposed failed",
        "since_time": ago(hours=2),
    }
    return rollout_pb2.Brake(
        scope=scope, kind=rollout_pb2.BrakeKind.Value(f"BRAKE_KIND_{kind}"), **{**values, **changes}
    )


def a_signal(name: str = "tow_rate", value: float = 2.4, **changes: object) -> rollout_pb2.Signal:
    values: dict[str, object] = {
        "kind": rollout_pb2.SIGNAL_KIND_WARNING,
        "scope": "all",
        "limit": 1.5,
        "actor": "ci",
        "reason": "tows a day per 1000",
        "create_time": ago(minutes=12),
        "measure_time": ago(minutes=12),
        "good_for": Duration(seconds=6 * 3600),
    }
    return rollout_pb2.Signal(signal=name, value=value, **{**values, **changes})


def a_cell(
    region: str = "eu", cohort: str = "canary", hardware: str = "gen1", **changes: object
) -> rollout_pb2.CellCounts:
    values: dict[str, object] = {
        "targeted": 40,
        "states": {"succeeded": 20, "downloading": 5, "failed": 2, "timed_out": 3},
        "exposed": 25,
        "failed": 2,
        "age_groups": [an_age_group(24, 20, 3), an_age_group(72, 10, 1)],
    }
    return rollout_pb2.CellCounts(region=region, hardware=hardware, cohort=cohort, **{**values, **changes})


def a_gate(verdict: str = "PROCEED", **changes: object) -> rollout_pb2.GateReport:
    values: dict[str, object] = {
        "rule": "failures_evalue",
        "scope": "eu/gen1",
        "message": "failed (2) of 25 exposed",
        "inputs": {"exposed": 25, "failed": 2, "evalue": 1.2345678},
        "judge_time": ago(minutes=1),
        "permit_allowance": 17,
    }
    return rollout_pb2.GateReport(
        verdict=rollout_pb2.VerdictKind.Value(f"VERDICT_KIND_{verdict}"), **{**values, **changes}
    )


def a_rollout(status: str = "RUNNING", **changes: object) -> rollout_pb2.Rollout:
    values: dict[str, object] = {
        "name": "rollouts/spring-1-1-0",
        "release": "1.1.0",
        "epoch": 3,
        "etag": "W/3",
        "create_time": ago(days=3, hours=4),
        "update_time": ago(hours=2),
        "last_actor": "admin",
        "last_reason": "canary looked good",
        "waves": ["canary", "early", "general"],
        "regions": [
            rollout_pb2.RegionProgress(
                region="eu",
                phase=rollout_pb2.REGION_PHASE_ROLLING,
                wave=1,
                wave_start_time=ago(hours=5),
                waiting_for="20 exposures, 12 so far",
            ),
            rollout_pb2.RegionProgress(region="us", phase=rollout_pb2.REGION_PHASE_AGING, wave=2),
        ],
        "cells": [a_cell(), a_cell(hardware="gen2"), a_cell(region="us", cohort="general")],
        "gate": a_gate(),
        "fleet_time": ago(seconds=0),
    }
    return rollout_pb2.Rollout(
        status=rollout_pb2.RolloutStatus.Value(f"ROLLOUT_STATUS_{status}"), **{**values, **changes}
    )


def an_open_window(zone: str, begin: str, end: str, vehicles: int = 40) -> rollout_pb2.OpenWindow:
    """A span in which vehicles may install; moments in RFC 3339."""
    window = rollout_pb2.OpenWindow(zone=zone, vehicles=vehicles)
    window.start_time.FromJsonString(begin)
    window.end_time.FromJsonString(end)
    return window


PREVIEWED_PLAN = """release: 1.1.0
waves:
- {name: canary, cohorts: [canary], soak: 1d}
- {name: everybody, share: 100%, soak: 2d, approvals: 2}
gate: {failure_ratio: 1%, sample: 20, checkpoints: [1d, 3d], silence_reference: [5%, 4.3%], alpha: 5%}
limits: {blast_budget: 20, starts_per_minute: 100}
holdout: 1%
"""


def a_preview(**changes: object) -> rollout_pb2.PreviewRolloutResponse:
    values: dict[str, object] = {
        "release": "1.1.0",
        "registered": 200,
        "targeted": 120,
        "cells": [
            rollout_pb2.CellCounts(region="eu", hardware="gen1", cohort="canary", targeted=80),
            rollout_pb2.CellCounts(region="us", hardware="gen2", cohort="general", targeted=40),
        ],
        "waves": [
            rollout_pb2.WavePreview(wave="canary", added={"eu": 20, "us": 10}),
            rollout_pb2.WavePreview(wave="everybody", added={"eu": 60, "us": 28}),
        ],
        "excluded": {"cohort": 70, "already_installed": 10},
        "warnings": ["region ap has 3 vehicles, fewer than the sample of 20"],
        "effective_plan": PREVIEWED_PLAN,
        "regions": [
            rollout_pb2.RegionPreview(
                region="eu",
                targeted=80,
                consent=vehicle_pb2.CONSENT_POLICY_REQUIRED,
                windows=[
                    an_open_window("Europe/Berlin", "2031-04-05T20:00:00Z", "2031-04-06T03:00:00Z", 70),
                    an_open_window("Europe/Lisbon", "2031-04-05T21:00:00Z", "2031-04-06T04:00:00Z", 10),
                ],
            ),
            rollout_pb2.RegionPreview(region="us", targeted=40, follow="eu", message="once eu is through with a wave"),
        ],
    }
    preview = rollout_pb2.PreviewRolloutResponse(**{**values, **changes})
    preview.shortest_duration.FromTimedelta(timedelta(days=3, hours=4))
    return preview


def a_vehicle(vehicle_id: str = "v-0001", **changes: object) -> fleet_pb2.Vehicle:
    values: dict[str, object] = {
        "name": f"vehicles/{vehicle_id}",
        "vehicle_id": vehicle_id,
        "model": "S",
        "hardware": "gen2",
        "region": "eu",
        "cohort": "canary",
        "tags": ["beta"],
        "ecus": [
            fleet_pb2.Ecu(serial=f"{vehicle_id}-gw", hardware_id="acme-gw-2", public_key="AA==", primary=True),
            fleet_pb2.Ecu(serial=f"{vehicle_id}-br", hardware_id="acme-brake-2", public_key="AA=="),
        ],
        "installed_release": "1.0.0",
        "last_seen_time": ago(minutes=10),
        "enrolled": True,
    }
    return fleet_pb2.Vehicle(**{**values, **changes})


def an_attempt(state: str = "DOWNLOADING", **changes: object) -> attempt_pb2.Attempt:
    values: dict[str, object] = {
        "attempt_id": "spring-1-1-0.v-0001.1",
        "rollout_id": "spring-1-1-0",
        "vehicle_id": "v-0001",
        "release": "1.1.0",
        "state_time": ago(minutes=5),
        "grant_time": ago(minutes=9),
        "number": 1,
    }
    return attempt_pb2.Attempt(state=attempt_pb2.AttemptState.Value(f"ATTEMPT_STATE_{state}"), **{**values, **changes})


def a_release(version: str = "1.1.0", **changes: object) -> release_pb2.Release:
    values: dict[str, object] = {
        "name": f"releases/{version}",
        "notes": "Better brakes",
        "images": [
            release_pb2.Image(
                path=f"acme-gw-2-{version}.img",
                hardware_id="acme-gw-2",
                length_bytes=123456,
                sha256="ab" * 32,
                release_counter=11,
            )
        ],
        "create_time": ago(days=1),
        "targets_version": 4,
    }
    return release_pb2.Release(version=version, **{**values, **changes})


def a_case(**changes: object) -> case_pb2.Case:
    values: dict[str, object] = {
        "name": "cases/spring-1-1-0.v-0001.1",
        "vehicle_id": "v-0001",
        "rollout_id": "spring-1-1-0",
        "attempt_id": "spring-1-1-0.v-0001.1",
        "cause": "silent",
        "detail": "no word 24 h after the permit",
        "open_time": ago(hours=1),
        "attempt_state": attempt_pb2.ATTEMPT_STATE_REBOOTING,
        "region": "eu",
        "hardware": "gen2",
        "cohort": "canary",
    }
    return case_pb2.Case(**{**values, **changes})
