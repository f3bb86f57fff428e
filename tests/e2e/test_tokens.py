"""A release whose every signature is made by a token: no private key of the Image repository is a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from signing.keys import PASSWORD_VARIABLE
from tests.processes import Installation, an_installation
from tests.tokens import PIN, a_token, needs_softhsm
from tests.vehicles import AVehicle, enrolled, offered

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300), needs_softhsm]
pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed; make setup-dev installs it")

ROLES = {"targets": 2, "attest": 3, "snapshot": 4, "timestamp": 5}
PLAN = """\
name: spring
release: 1.2.0
holdout: 0%
waves: [{name: all, soak: 0s}]
"""


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    (tmp_path / "softhsm").mkdir()
    with an_installation(tmp_path) as running, a_token(tmp_path / "softhsm", "repo", range(2, 6), pkcs11):
        monkeypatch.setenv(PASSWORD_VARIABLE, PIN)
        yield running


def uri(role: str) -> str:
    return f"hsm:{ROLES[role]}?label=repo"


def test_tokens_sign_a_release_and_keep_it_fresh(house: Installation, tmp_path: Path) -> None:
    """Typed as docs/keys.md has it: say where the keys are, have the roots name them, throw the files away."""
    keys, change = house.data / "keys" / "image", house.data / "pending" / "image.json"
    for role in ROLES:
        house.must("keys", "use", "image", role, uri(role))
        house.must("keys", "rotate", "image", role, "--new", f"token-{role}={uri(role)}")
    for key in (keys / "root-1.pem", keys / "root-2.pem", uri("targets")):
        house.must("keys", "sign", change, "--key", key, "--yes")
    house.must("keys", "publish", change)
    for role in ROLES:
        (keys / f"{role}.pem").unlink()
    house.publish("1.2.0", release_counter=12)
    assert house.must("image-repo", "renew")["signed"] == []
    [vehicle] = enrolled(house, AVehicle("v-1"))
    vehicle.provision(house, tmp_path / "v-1")
    vehicle.check_in()
    vehicle.attest()
    house.must("rollout", "start", house.write("spring.yaml", PLAN), "--yes")
    assert offered(vehicle).release == "1.2.0"
    assert len(vehicle.verify().images) == 2, "a vehicle verifies what the token signed"
