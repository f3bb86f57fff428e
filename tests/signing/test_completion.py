"""Verification that asks for what it lacks: it ends with what is true, or with the file that is nowhere."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from signing.completion import verify_completing
from signing.errors import AttackCode, MissingFileError, VerificationError
from signing.verify import Files, VerifiedBundle
from tests.signing.uptane_simulator import NOW, SimulatedPrimary, UptaneSimulator


class Fetcher:
    """Serves files, and remembers for which it was asked."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.asked: list[tuple[str, str]] = []

    def __call__(self, repository: str, name: str) -> bytes | None:
        self.asked.append((repository, name))
        return self.files.get((repository, name))


def completed(primary: SimulatedPrimary, given: Files, fetch: Fetcher) -> VerifiedBundle:
    return verify_completing(primary.verifier, given, fetch=fetch, now=NOW, installed={})


def test_nothing_is_fetched_when_the_poll_brought_everything(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A fleet that asks for what it has would call twice as often."""
    fetch = Fetcher({})
    assert len(completed(primary, uptane.files(), fetch).images) == 2
    assert fetch.asked == []


@pytest.mark.parametrize("repository", ["director", "image"])
def test_what_a_poll_left_out_is_fetched(uptane: UptaneSimulator, primary: SimulatedPrimary, repository: str):
    """Each needed file once, timestamp first, since it names the next."""
    given = {key: content for key, content in uptane.files().items() if key[0] != repository}
    fetch = Fetcher(uptane.files())
    assert len(completed(primary, given, fetch).images) == 2
    assert [name.rpartition(".json")[0].rpartition(".")[2] for _, name in fetch.asked] == [
        "timestamp",
        "snapshot",
        "targets",
    ]
    assert {each for each, _ in fetch.asked} == {repository}


def test_what_was_signed_anew_since_the_poll_is_found_by_a_fresh_timestamp(
    uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """The snapshot that the poll's timestamp names is gone; that is no attack, and must not reject the attempt."""
    given = {key: content for key, content in uptane.files().items() if key[1] == "timestamp.json"}
    given |= {key: content for key, content in uptane.files().items() if key[0] == "director"}
    uptane.image.publish()
    fetch = Fetcher(uptane.files())
    assert len(completed(primary, given, fetch).images) == 2
    assert fetch.asked[1] == ("image", "timestamp.json")


def test_a_file_that_is_nowhere_is_named(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """It is asked for once, and the refusal says which it was."""
    given = {key: content for key, content in uptane.files().items() if key[0] != "image"}
    fetch = Fetcher({})
    with pytest.raises(MissingFileError) as caught:
        completed(primary, given, fetch)
    assert (caught.value.repository, caught.value.name) == ("image", "timestamp.json")
    assert caught.value.code is AttackCode.MISSING
    assert "timestamp.json was neither given nor held" in str(caught.value)
    assert len(fetch.asked) <= 2


def test_a_timestamp_that_is_still_the_same_ends_it(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """What it leads to is nowhere, and nothing was signed anew: asked once for each, and named."""
    snapshot = uptane.image.name_of("snapshot")
    given = {key: content for key, content in uptane.files().items() if key != ("image", snapshot)}
    fetch = Fetcher({key: content for key, content in given.items() if key[1] == "timestamp.json"})
    with pytest.raises(MissingFileError) as caught:
        completed(primary, given, fetch)
    assert (caught.value.repository, caught.value.name) == ("image", snapshot)
    assert fetch.asked == [("image", snapshot), ("image", "timestamp.json")]


@pytest.mark.uptane("A13", "A15")
def test_an_empty_file_is_refused_and_not_asked_for_again(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """Nothing under the right name is no file that could be waited for."""
    given = {key: content for key, content in uptane.files().items() if key[0] != "image"}
    fetch = Fetcher({("image", "timestamp.json"): b""})
    with pytest.raises(VerificationError) as caught:
        completed(primary, given, fetch)
    assert caught.value.code is AttackCode.MALFORMED
    assert fetch.asked == [("image", "timestamp.json")]


@pytest.mark.uptane("A13")
def test_a_server_that_signs_without_end_does_not_keep_the_vehicle_busy(
    uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """A new timestamp each time, and never what it leads to: one fresh one is taken, not every one."""
    given = {key: content for key, content in uptane.files().items() if key[0] != "image"}
    asked: list[str] = []

    def fetch(repository: str, name: str) -> bytes | None:
        asked.append(name)
        assert len(asked) < 10, "without end"
        uptane.image.publish()
        return uptane.image.current["timestamp.json"] if name == "timestamp.json" else None

    with pytest.raises(MissingFileError):
        verify_completing(primary.verifier, given, fetch=fetch, now=NOW, installed={})
    assert asked.count("timestamp.json") == 1


@pytest.mark.uptane("A13")
def test_a_server_that_serves_the_wrong_file_does_not_keep_the_vehicle_busy(
    uptane: UptaneSimulator, primary: SimulatedPrimary
):
    """Whatever it serves, the loop ends."""
    given = {key: content for key, content in uptane.files().items() if key[0] != "image"}
    asked = 0

    def fetch(repository: str, name: str) -> bytes | None:
        nonlocal asked
        asked += 1
        return uptane.files()["image", "timestamp.json"]

    with pytest.raises(VerificationError):
        verify_completing(primary.verifier, given, fetch=fetch, now=NOW, installed={})
    assert asked <= 4


def test_what_is_fetched_is_judged_like_what_was_brought(uptane: UptaneSimulator, primary: SimulatedPrimary):
    """A call of its own is no proof: expired is expired."""
    given = {key: content for key, content in uptane.files().items() if key[0] != "image"}
    later = NOW + timedelta(days=60)
    with pytest.raises(VerificationError) as caught:
        verify_completing(primary.verifier, given, fetch=Fetcher(uptane.files()), now=later, installed={})
    assert caught.value.code is AttackCode.FREEZE


def test_the_callers_own_error_passes_through(uptane: UptaneSimulator, primary: SimulatedPrimary, tmp_path: Path):
    """Without a link nothing is known: the attempt is neither taken up nor rejected."""

    def fetch(repository: str, name: str) -> bytes | None:
        raise ConnectionError("no link")

    with pytest.raises(ConnectionError, match="no link"):
        verify_completing(primary.verifier, {}, fetch=fetch, now=NOW, installed={})
