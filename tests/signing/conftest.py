"""Fixtures of the signing tests: one honest pair of repositories, one honest data folder."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from signing.ceremony import DataFolder, initialise
from signing.signer_client import SignerClient
from tests.signing.uptane_simulator import NOW, SimulatedPrimary, UptaneSimulator


@pytest.fixture
def uptane() -> UptaneSimulator:
    """Both repositories, honest until a test says otherwise."""
    return UptaneSimulator.create()


@pytest.fixture
def primary(uptane: UptaneSimulator, tmp_path: Path) -> SimulatedPrimary:
    """The vehicle, provisioned with the roots of `uptane`."""
    return uptane.vehicle(tmp_path / "held")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """A data folder for tests that only read it."""
    return initialise(tmp_path_factory.mktemp("ceremony") / "data", trust_domain="fleet.example", now=NOW)


@pytest.fixture
def data(pristine: DataFolder, tmp_path: Path) -> DataFolder:
    """A data folder of its own, right after the ceremony."""
    shutil.copytree(pristine.path, tmp_path / "data")
    return DataFolder(tmp_path / "data")


@pytest.fixture
def socket_path() -> Iterator[Path]:
    """In a short folder: a unix socket's path has 107 characters at most."""
    folder = Path(tempfile.mkdtemp(prefix="signer-"))
    yield folder / "s"
    shutil.rmtree(folder)


@pytest.fixture
async def client(socket_path: Path) -> AsyncIterator[SignerClient]:
    client = SignerClient(socket_path)
    yield client
    await client.close()
