"""Whole runs on real sockets in which owners, conditions, diagnoses, lost metadata and old certificates have a say."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.x509 import load_der_x509_csr

from agent_sim.messages import Consent, EventKind, Severity
from agent_sim.scenario import Scenario, parse_scenario
from signing.pki import identity_of
from tests.agent_sim.ground import SCENARIO, Ground, a_scenario, releases
from tests.agent_sim.wire_orchestrator import TRUST_DOMAIN, machine_now, serving

OWNERS = """
[[owners]]
answer = "agree"
share = 0.5
after = "20m"

[[owners]]
answer = "postpone"
share = 0.25
again_after = "3h"

[[owners]]
answer = "decline"
share = 0.25
"""


def for_hours(hours: int, more: str = "") -> Scenario:
    """The scenario of these tests, for so long."""
    head, _, _ = SCENARIO.partition("[run]")
    return parse_scenario(f'{head}{more}\n[run]\nuntil = "duration"\nduration = "{hours}h"\n')


async def test_owners_are_asked_and_only_those_who_agree_are_updated(tmp_path: Path) -> None:
    """Consent over the real wire: half agree, a quarter later, a quarter never."""
    ground = Ground(tmp_path, for_hours(12, OWNERS))
    for served in ground.orchestrator.vehicles.values():
        served.orchestrator.consent = Consent.REQUIRED
    report = await ground.ride()
    assert sorted(releases(report)) == ["1.0.0"] * 2 + ["1.1.0"] * 6
    assert report["totals"]["owner_answers"] == {"later": 2, "no": 2, "yes": 6}
    for vehicle_id, served in ground.orchestrator.vehicles.items():
        answers = [word["answer"] for word in report["vehicles"][vehicle_id]["owner"]]
        assert all(asked.consented for asked in served.orchestrator.asked)
        assert bool(served.orchestrator.permits) == ("yes" in answers)
        (events,) = served.orchestrator.applied.values()
        assert (EventKind.DEFERRED, "consent_pending") in [(event.kind, event.failure_code) for event in events]
        assert ("consent_declined" in [event.failure_code for event in events]) == ("no" in answers)


async def test_trouble_codes_appear_some_time_after_the_installation(tmp_path: Path) -> None:
    """What a case of the cause `diagnosis` is made from."""
    fault = 'kind = "trouble_code"\ncode = "U0100"\nseverity = "critical"\nafter = "4h"\nreleases = ["1.1.0"]\n'
    fault = f'[[faults]]\n{fault}hardware = ["gen2"]\necu = "acme-brake-2"\n'
    ground = Ground(tmp_path, for_hours(16, fault))
    report = await ground.ride()
    for vehicle_id, served in ground.orchestrator.vehicles.items():
        told = {ill for poll in served.orchestrator.polls for ill in poll.diagnostics}
        assert bool(told) == (report["vehicles"][vehicle_id]["hardware"] == "gen2")
        for ill in told:
            assert (ill.code, ill.severity, ill.ecu_serial) == ("U0100", Severity.CRITICAL, f"{vehicle_id}-e1")
    assert report["totals"]["diagnosed"] == 4


async def test_metadata_that_polls_do_not_bring_is_asked_for(tmp_path: Path) -> None:
    """An answer that lost its files is neither an attack nor an empty assignment."""
    ground = Ground(tmp_path, a_scenario())
    ground.orchestrator.withholds_metadata = True
    report = await ground.ride()
    assert releases(report) == ["1.1.0"] * 8
    assert ok(report, "FetchMetadata") == 8 * 6, "of each repository timestamp, snapshot and targets"


async def test_metadata_of_which_some_is_lost_is_completed(tmp_path: Path) -> None:
    """Any subset may be missing."""
    ground = Ground(tmp_path, a_scenario('kind = "lost_metadata"\nprobability = 0.4'))
    report = await ground.ride()
    assert releases(report) == ["1.1.0"] * 8
    assert ok(report, "FetchMetadata") > 0
    assert all(len(vehicle["installs"]) == 1 for vehicle in report["vehicles"].values())


def ok(report: dict[str, Any], method: str) -> int:
    """How many calls of a method were answered."""
    return sum(call["count"] for call in report["calls"] if (call["method"], call["status"]) == (method, "OK"))


async def test_certificates_are_renewed_for_a_new_key_and_a_lost_answer_is_asked_for_again(tmp_path: Path) -> None:
    """A vehicle whose certificate runs out is lost to the workshop."""
    ground = Ground(tmp_path, a_scenario())
    ground.orchestrator.first_life = timedelta(hours=2)
    ground.orchestrator.lost_renewals = 3
    ahead = timedelta(hours=1, minutes=35)
    steps = iter(range(10**9))

    def wall() -> Any:
        # Half a minute between two looks, so that a renewal whose answer was lost is tried again within the run.
        return machine_now() + ahead + timedelta(seconds=30 * next(steps))

    async with serving(ground.orchestrator, tmp_path) as endpoints:
        report = await ground.run(endpoints, wall=wall)
    assert releases(report) == ["1.1.0"] * 8
    assert ok(report, "RenewCertificate") == 8
    keys = [load_der_x509_csr(request).public_key() for request in ground.orchestrator.renewal_requests]
    numbers = [key.public_numbers() for key in keys if isinstance(key, EllipticCurvePublicKey)]
    # Who heard no answer asks again with the key that was kept.
    assert len(numbers) == 11
    assert len(set(numbers)) == 8
    for vehicle_id in ground.orchestrator.vehicles:
        home = ground.fleet.home(vehicle_id)
        assert identity_of(home.tls.chain.read_bytes(), trust_domain=TRUST_DOMAIN).name == vehicle_id
        assert not home.next_tls.chain.exists()
        assert not home.next_tls.key.exists()
        assert home.tls.key.stat().st_mode & 0o077 == 0
