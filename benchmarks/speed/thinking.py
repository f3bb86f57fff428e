"""What costs processor time alone: a judgement, an admission, a rehearsal."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from benchmarks.speed.pairs import Pair, Work
from orchestrator.engine.admission import consider
from orchestrator.engine.gates import judge
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.progress import start
from orchestrator.engine.targets import compile_target
from orchestrator.model.attempt import AttemptState
from orchestrator.model.decision import Grant
from orchestrator.model.fleet import Cell, Ecu, Vehicle
from orchestrator.model.ids import EcuSerial, FleetTime, HardwareId, ReleaseVersion, RolloutId, VehicleId
from orchestrator.model.plan import Plan
from orchestrator.model.release import Image, Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import AgeGroup, Tally
from orchestrator.model.vehicle import DirectorState, VehicleRecord
from orchestrator.rehearsal import ReleaseModel
from orchestrator.rehearsal.fleets import FLEETS
from orchestrator.rehearsal.inventory import invented
from orchestrator.rehearsal.rehearse import Scenario, rehearse

NOW = FleetTime(1_800_000_000_000)
PLAN = "release: 1.1.0\nlimits: {in_flight: 100000, starts_per_minute: 10000, blast_budget: 200}\n"
REHEARSED_PLAN = "release: 1.1.0\nlimits: {in_flight: 100000, starts_per_minute: 10000}\n"
STRATA = 10
HASHES = 20_000
BARE = "BLAKE2b of 32 bytes"


def thinking(*, judgements: int = 300, admissions: int = 5_000, vehicles: int = 200_000) -> list[Pair]:
    """The pairs.

    Args:
        judgements: Of a round.
        admissions: Of a round.
        vehicles: Of a rehearsal.
    """
    return [
        Pair("gate_judge_ratio", "gate: judge, 10 strata", "judgements", BARE, _judging(judgements), _hashing),
        Pair("admission_ratio", "admission: consider, granted", "vehicles", BARE, _considering(admissions), _hashing),
        Pair(
            "rehearse_ratio",
            "rehearse: a release that comes through",
            "vehicles",
            "a NumPy pass: draw a normal each and sort them",
            _rehearsing(vehicles),
            lambda: _passing(vehicles),
        ),
    ]


def _hashing() -> int:
    for number in range(HASHES):
        blake2b(number.to_bytes(32, "big"), digest_size=8).digest()
    return HASHES


def _judging(count: int) -> Work:
    plan = read_plan(PLAN)
    # Every judgement sees other counts, as every tick does that has something to judge.
    tallies = [_tallies(1_000 + number) for number in range(count)]

    def work() -> int:
        for cells in tallies:
            judge(cells, plan, strata=STRATA)
        return count

    return work


def _tallies(exposed: int) -> Mapping[Cell, Tally]:
    failed = exposed // 500
    states = {
        AttemptState.SUCCEEDED: exposed - failed - 40,
        AttemptState.FAILED: failed,
        AttemptState.INSTALLING: 40,
    }
    groups = tuple(
        AgeGroup(exposed // age, exposed // age // 20, exposed // age, exposed // age // 22) for age in (2, 4)
    )
    return {
        Cell("eu", f"gen{number}", "general"): Tally(after_permit=states, age_groups=groups) for number in range(STRATA)
    }


def _considering(count: int) -> Work:
    plan = read_plan(PLAN + "waves: [{name: all}]\nholdout: 0%\n")
    rollout = _rollout(plan)
    target = compile_target(plan.target)
    release = Release(
        version=ReleaseVersion("1.1.0"),
        images=(Image("a.img", HardwareId("gw-2"), 1, "00" * 32, 2),),
        notes="",
        created_at=NOW,
        targets_version=1,
    )
    records = [_record(number) for number in range(count)]
    # What is measured is the long way: every reason not to was looked at.
    assert all(isinstance(consider(record, rollout, release, target, NOW), Grant) for record in records[:10])

    def work() -> int:
        for record in records:
            consider(record, rollout, release, target, NOW)
        return count

    return work


def _rollout(plan: Plan) -> Rollout:
    rules = {"eu": plan.region_defaults}
    return start(RolloutId("spring"), plan, PLAN, bytes(16), rules, "bench", "bench", "", NOW)


def _record(number: int) -> VehicleRecord:
    ecu = Ecu(EcuSerial(f"e-{number}"), HardwareId("gw-2"), "", primary=True)
    vehicle = Vehicle(VehicleId(f"v-{number}"), "S", "gen2", "eu", "general", (), (ecu,))
    return VehicleRecord(
        vehicle=vehicle,
        enrolled=True,
        installed=ReleaseVersion(""),
        manifest_sha256="",
        manifest_counter=0,
        outbox_id="",
        acknowledged_number=0,
        director=DirectorState(),
        tries={},
        attempt=None,
        last_seen_at=NOW,
    )


def _rehearsing(vehicles: int) -> Work:
    plan = read_plan(REHEARSED_PLAN)
    inventory = invented(plan, vehicles, regions={}, hardware={}, cohorts={})
    scenario = Scenario(inventory, FLEETS["1.3"], ReleaseModel(0.0, 0.0), NOW)

    def work() -> int:
        rehearse(plan, scenario, seed=1)
        return vehicles

    return work


def _passing(vehicles: int) -> int:
    rng = np.random.default_rng(1)
    np.sort(rng.standard_normal(vehicles))
    return vehicles
