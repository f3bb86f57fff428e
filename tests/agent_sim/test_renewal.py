"""Which certificate a vehicle shows: the old one until the new one worked, whatever is lost or killed in between."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent_sim.actions import CallFailed, ManifestReplied
from agent_sim.channels import TlsFiles
from agent_sim.renewal import Renewals, Renewed
from agent_sim.vehicle_folder import VehicleFolder
from signing.pki import Authority, certificate_request, new_key

BORN = datetime(2030, 1, 1, tzinfo=UTC)
LIFE = timedelta(days=90)
WORKED, LOST = ManifestReplied(1), CallFailed(1)


class Ground:
    """One enrolled vehicle, an authority that answers or does not, and a date that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.create("vehicles", BORN, timedelta(days=3650))
        self.home = VehicleFolder(folder)
        self.now = BORN
        self.answers = True
        self.asked: list[bytes] = []
        key = new_key()
        folder.mkdir()
        self.home.save_enrolment(key, self.issue(certificate_request(key)), b"server authorities")
        self.first = self.home.tls.chain.read_bytes()
        self.restart()

    def issue(self, csr: bytes) -> bytes:
        return self.authority.issue_vehicle(csr, trust_domain="fleet.test", vehicle_id="v1", now=self.now, life=LIFE)

    def restart(self) -> None:
        self.renewals = Renewals(lambda _: self.home, self.renew, lambda: self.now)

    async def renew(self, vehicle_id: str, tls: TlsFiles, csr: bytes) -> Renewed | None:
        assert tls == self.home.tls
        assert self.home.next_tls.key.exists(), "the key is kept before anyone hears of it"
        self.asked.append(csr)
        return Renewed(self.issue(csr), b"new server authorities") if self.answers else None

    async def call(self, answer: ManifestReplied | CallFailed) -> TlsFiles:
        shown = await self.renewals.identity("v1")
        self.renewals.learn("v1", shown, answer)
        return shown


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A vehicle."""
    return Ground(tmp_path / "v1")


async def test_nothing_is_renewed_before_two_thirds_of_the_life(ground: Ground) -> None:
    """Renewing all the time would be a load of its own."""
    ground.now = BORN + LIFE * 0.66
    assert await ground.call(WORKED) == ground.home.tls
    assert ground.asked == []
    ground.now = BORN + LIFE * 0.72
    assert await ground.call(LOST) == ground.home.next_tls
    assert len(ground.asked) == 1


async def test_new_certificate_takes_the_place_once_a_call_was_answered(ground: Ground) -> None:
    """Then the old one is gone, and nothing is due for a long time."""
    ground.now = BORN + LIFE * 0.8
    await ground.call(WORKED)
    assert ground.home.tls.chain.read_bytes() != ground.first
    assert ground.home.tls.server_ca.read_bytes() == b"new server authorities"
    assert not ground.home.next_tls.key.exists()
    assert await ground.call(WORKED) == ground.home.tls
    assert len(ground.asked) == 1


async def test_old_certificate_is_kept_and_used_while_the_new_one_has_no_answer(ground: Ground) -> None:
    """A broken new certificate must not lose the vehicle; one that never works is given up."""
    ground.now = BORN + LIFE * 0.8
    shown = []
    for _ in range(6):
        new = (await ground.renewals.identity("v1")) == ground.home.next_tls
        shown.append(await ground.call(LOST if new else WORKED))
    assert shown == [ground.home.next_tls, ground.home.tls] * 3
    assert ground.home.tls.chain.read_bytes() == ground.first
    assert not ground.home.next_tls.chain.exists()
    assert len(ground.asked) == 1
    ground.now += LIFE * 0.02
    assert await ground.call(WORKED) == ground.home.next_tls


@pytest.mark.parametrize("lost", range(1, 8))
async def test_outage_after_a_renewal_costs_no_good_certificate(ground: Ground, lost: int) -> None:
    """While nothing is answered neither certificate is to blame: renewing again would waste the one that is there."""
    ground.now = BORN + LIFE * 0.8
    for _ in range(lost):
        await ground.call(LOST)
    for _ in range(2):
        await ground.call(WORKED)
    assert ground.home.tls.chain.read_bytes() != ground.first
    assert len(ground.asked) == 1


async def test_lost_answer_is_asked_for_again_later_with_the_key_that_was_kept(ground: Ground) -> None:
    """Not with every call: a renewal that cannot be answered must not double the load."""
    ground.now = BORN + LIFE * 0.8
    ground.answers = False
    for _ in range(5):
        assert await ground.call(WORKED) == ground.home.tls
    assert len(ground.asked) == 1
    kept = ground.home.next_tls.key.read_bytes()
    ground.restart()
    ground.answers = True
    await ground.call(WORKED)
    assert ground.home.tls.key.read_bytes() == kept


async def test_killed_between_renewal_and_first_call_it_goes_on_with_the_new_one(ground: Ground) -> None:
    """Both are whole on disk; the new one is tried, not asked for again."""
    ground.now = BORN + LIFE * 0.8
    await ground.renewals.identity("v1")
    ground.restart()
    assert await ground.call(WORKED) == ground.home.next_tls
    assert len(ground.asked) == 1
    assert ground.home.tls.chain.read_bytes() != ground.first
