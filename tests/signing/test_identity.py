"""A vehicle's identity: when it enrols and renews, what it shows, and that nothing of it is lost."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from signing.errors import KeyFileError, NotEnrolledError
from signing.identity import Need, VehicleIdentity
from signing.pki import Authority

START = datetime(2030, 1, 1, tzinfo=UTC)
LIFE = timedelta(days=90)
DUE = START + LIFE * 0.7
CA = b"server authorities"


class World:
    """A vehicle's folder and an authority that answers its requests."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create("vehicles", START - timedelta(days=1), timedelta(days=3650))
        self.identity = VehicleIdentity(folder)

    def restart(self) -> None:
        """As after a loss of power."""
        self.identity = VehicleIdentity(self.folder)

    def answer(self, now: datetime, *, life: timedelta = LIFE) -> bytes:
        """Ask, be answered, keep it."""
        csr = self.identity.request()
        chain = self.authority.issue_vehicle(
            trust_domain="fleet.example", vehicle_id="veh-1", csr_der=csr, now=now, life=life
        )
        self.identity.take(chain, CA, now)
        return chain

    def renewing(self) -> tuple[bytes, bytes]:
        """Enrolled, proven, renewed; old and new chain."""
        old = self.answer(START)
        self.identity.answered()
        return old, self.answer(DUE)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A vehicle that never enrolled."""
    return World(tmp_path)


def test_a_new_vehicle_enrols(world: World):
    """It has nothing to show, and says so."""
    assert world.identity.need(START) is Need.ENROL
    with pytest.raises(NotEnrolledError, match="enrol first"):
        world.identity.shown()


def test_a_request_is_the_same_until_it_is_answered(world: World):
    """The first request spends the token: only the very same bytes are answered again, also after a restart."""
    csr = world.identity.request()
    assert world.identity.request() == csr
    world.restart()
    assert world.identity.request() == csr
    assert x509.load_der_x509_csr(csr).is_signature_valid


def test_keys_are_for_their_owner_only(world: World):
    """The file holds private keys."""
    world.answer(START)
    (file,) = world.folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_renewal_is_due_at_two_thirds(world: World):
    """Not earlier, and not again for the new one until its own two thirds have passed."""
    world.answer(START)
    world.identity.answered()
    begins = x509.load_pem_x509_certificate(world.identity.shown().chain).not_valid_before_utc
    due = begins + (START + LIFE - begins) * 2 / 3
    assert world.identity.need(due - timedelta(seconds=1)) is None
    assert world.identity.need(due) is Need.RENEW
    first = world.identity.request()
    world.answer(due)
    world.identity.answered()
    assert world.identity.need(due + LIFE / 2) is None
    assert world.identity.request() != first


def test_each_request_is_for_a_key_of_its_own(world: World):
    """A key that leaked is worth one certificate."""
    keys = []
    for _ in range(3):
        keys.append(x509.load_der_x509_csr(world.identity.request()).public_key())
        world.answer(START)
        world.identity.answered()
    assert len({key.public_numbers() for key in keys}) == 3


def test_the_old_one_stays_until_the_new_one_worked(world: World):
    """A certificate that nobody takes must not lock the vehicle out; shown is the new one, also after a restart."""
    old, new = world.renewing()
    world.restart()
    assert world.identity.shown().chain == new
    world.identity.unanswered()
    assert world.identity.shown().chain == old
    world.identity.answered()
    assert world.identity.shown().chain == new
    world.identity.answered()
    world.identity.unanswered()
    assert world.identity.shown().chain == new, "the old one is gone"
    world.restart()
    assert world.identity.shown().chain == new


@pytest.mark.parametrize("failures", range(1, 8))
def test_an_outage_right_after_a_renewal_does_not_renew_again(world: World, failures: int):
    """Whichever of the two the first answer came to: the new one is not proven wrong, and is not asked for again."""
    _, new = world.renewing()
    for _ in range(failures):
        world.identity.unanswered()
        assert world.identity.need(DUE) is None
    world.identity.answered()
    assert world.identity.need(DUE) is None
    assert world.identity.shown().chain == new
    world.restart()
    assert world.identity.need(DUE) is None
    assert world.identity.shown().chain == new


def test_a_new_one_that_never_works_is_given_up(world: World):
    """Three times in a row the old one was answered right after the new one was not; the next try waits a while."""
    old, new = world.renewing()
    for _ in range(3):
        assert world.identity.shown().chain == new
        world.identity.unanswered()
        assert world.identity.shown().chain == old
        world.identity.answered()
    assert world.identity.shown().chain == old
    assert world.identity.need(DUE) is None
    assert world.identity.need(DUE + timedelta(hours=20)) is None
    assert world.identity.need(DUE + timedelta(hours=22)) is Need.RENEW


def test_outages_that_follow_each_other_do_not_add_up(world: World):
    """Neither worked in between: that was no proof against the new one, and begins the count anew."""
    _, new = world.renewing()
    for failures in (1, 1, 3, 1):
        for _ in range(failures):
            world.identity.unanswered()
        world.identity.answered()
    assert world.identity.shown().chain == new


def test_an_expired_certificate_is_neither_renewed_nor_shown(world: World):
    """TLS refuses it: only a token helps."""
    old = world.answer(START)
    world.identity.answered()
    late = START + LIFE
    assert world.identity.need(late) is Need.ENROL
    new = world.answer(late)
    world.identity.unanswered()
    assert world.identity.shown().chain == new != old


def test_an_expired_old_one_is_nothing_to_fall_back_to(world: World):
    """It ran out while the new one was not proven yet."""
    _, new = world.renewing()
    world.identity.unanswered()
    assert world.identity.need(START + LIFE) is None
    assert world.identity.shown().chain == new


def test_a_damaged_file_is_said_with_a_remedy(world: World):
    """A rotten disk must not look like a vehicle that never enrolled: its token is spent."""
    world.answer(START)
    (file,) = world.folder.iterdir()
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(KeyFileError, match="enrol again with another token"):
        world.restart()
