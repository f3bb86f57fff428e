"""The adapter over python-tuf: what it relies on inside that package is checked here, so that an upgrade is noticed."""

from __future__ import annotations

import os
from datetime import datetime
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from tuf.ngclient import FetcherInterface, Updater

from signing.errors import HeldMetadataError, SigningError
from signing.tuf_client import DIRECTOR_CAPS, HeldFiles, MemoryUpdater, RefreshError, refresh, set_fleet_time
from tests.signing.uptane_simulator import NOW, UptaneSimulator


class NoFetcher(FetcherInterface):
    def _fetch(self, url: str):
        raise AssertionError(url)


def test_this_python_tuf_is_the_one_that_was_read():
    """The adapter sets a private field; another version has to be read before it is trusted with expiry."""
    assert version("tuf").split(".")[:2] == ["7", "0"]
    assert any(line.replace(" ", "").startswith("tuf<7.1") for line in requires("outrider") or [])


def test_python_tuf_reads_the_wall_clock_and_lets_it_be_replaced(uptane: UptaneSimulator, tmp_path: Path):
    """Where this fails, fleet time no longer reaches the place where expiry is judged."""
    updater = Updater(str(tmp_path), "bytes:/", fetcher=NoFetcher(), bootstrap=uptane.director.first_root)
    assert isinstance(updater._trusted_set.reference_time, datetime)
    assert updater._trusted_set.reference_time != NOW
    set_fleet_time(updater, NOW)
    assert updater._trusted_set.reference_time == NOW


def test_a_python_tuf_that_keeps_its_time_elsewhere_is_refused():
    """Setting a field that nobody reads would leave expiry to the wall clock, silently."""

    class NewerTrustedSet:
        clock = "elsewhere"

    class NewerUpdater:
        _trusted_set = NewerTrustedSet()

    with pytest.raises(SigningError, match=r"install tuf 7\.0"):
        set_fleet_time(NewerUpdater(), NOW)  # type: ignore[arg-type]


def test_an_unusable_provisioned_root_is_no_attack(uptane: UptaneSimulator):
    """What stands in the vehicle from the factory is a matter for a workshop."""
    with pytest.raises(HeldMetadataError, match="provisioned root"):
        refresh(bootstrap=b"{}", held=HeldFiles(), offered=lambda name: None, caps=DIRECTOR_CAPS, now=NOW)


def test_nothing_of_python_tuf_reaches_the_disk(uptane: UptaneSimulator, monkeypatch: pytest.MonkeyPatch):
    """What it accepts is kept only when every check of ours agrees as well; and the disk costs more than the check."""

    def never(*arguments: object, **more: object) -> None:
        raise AssertionError(f"the disk was touched: {arguments}")

    served = {name: content for (_, name), content in uptane.director.files().items()}
    for name in ("replace", "symlink", "remove", "mkdir"):
        monkeypatch.setattr(os, name, never)
    monkeypatch.setattr("tempfile.NamedTemporaryFile", never)
    trusted = refresh(
        bootstrap=uptane.director.first_root, held=HeldFiles(), offered=served.get, caps=DIRECTOR_CAPS, now=NOW
    )
    assert set(trusted.held.roles) == {"timestamp", "snapshot", "targets"}


def test_the_replaced_methods_are_python_tuf_s_own():
    """A renamed method would leave the original in use, and ours without effect."""
    replaced = {name for name, value in vars(MemoryUpdater).items() if callable(value) and name.startswith("_")}
    assert replaced - {"__init__"} == {
        "_load_local_metadata",
        "_persist_metadata",
        "_persist_root",
        "_update_root_symlink",
    }
    assert replaced <= set(vars(Updater))


@pytest.mark.uptane("A13")
def test_an_endless_chain_of_roots_is_walked_in_bounded_steps(uptane: UptaneSimulator):
    """A13: work is bounded in one refresh; what was walked is reported, so that the next one goes on from there."""
    director = uptane.director
    for _ in range(70):
        director.rotate_root(lambda root: None)
    served = {name: content for (_, name), content in director.files().items()}
    asked: list[str] = []

    def offered(name: str) -> bytes | None:
        asked.append(name)
        return served.get(name) if name.endswith("root.json") else None

    with pytest.raises(RefreshError) as caught:
        refresh(bootstrap=director.first_root, held=HeldFiles(), offered=offered, caps=DIRECTOR_CAPS, now=NOW)
    assert sum(name.endswith("root.json") for name in asked) == 64
    assert max(caught.value.roots) == 65
    held = HeldFiles(roots=caught.value.roots)
    trusted = refresh(bootstrap=director.first_root, held=held, offered=served.get, caps=DIRECTOR_CAPS, now=NOW)
    assert trusted.root.version == 71


def test_held_files_answer_to_the_names_a_repository_uses(uptane: UptaneSimulator):
    """A held file stands in for an absent one only under its very version."""
    served = {name: content for (_, name), content in uptane.director.files().items()}
    trusted = refresh(
        bootstrap=uptane.director.first_root, held=HeldFiles(), offered=served.get, caps=DIRECTOR_CAPS, now=NOW
    )
    held = trusted.held
    assert held.named("timestamp.json") == served["timestamp.json"]
    assert held.named(f"{trusted.targets.version}.targets.json") == served[f"{trusted.targets.version}.targets.json"]
    assert held.named(f"{trusted.targets.version + 1}.targets.json") is None
    assert held.named("supplier.json") is None
