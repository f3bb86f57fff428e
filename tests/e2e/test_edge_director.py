"""The Director over HTTPS on a real service: an unmodified client of others verifies a vehicle's files."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater

from signing.pki import key_pem
from tests.e2e.conftest import RELEASE
from tests.processes import CALL_TIMEOUT_S, Installation
from tests.vehicles import AVehicle, enrolled, offered


class WithCertificate(FetcherInterface):
    """Fetches by mutual TLS as one vehicle; the rest of the client is as it was installed."""

    def __init__(self, installation: Installation, folder: Path, vehicle: AVehicle | None) -> None:
        self._context = ssl.create_default_context(cadata=installation.server_ca.decode())
        if vehicle is not None:
            pem = folder / f"{vehicle.vehicle_id}.pem"
            pem.write_bytes(key_pem(vehicle.tls_key) + vehicle.certificate_chain)
            self._context.load_cert_chain(pem)

    def _fetch(self, url: str) -> Iterator[bytes]:
        where = urllib.parse.urlsplit(url)
        assert where.hostname is not None
        connection = http.client.HTTPSConnection(
            where.hostname, where.port, context=self._context, timeout=CALL_TIMEOUT_S
        )
        try:
            connection.request("GET", where.path)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise DownloadHTTPError(f"status {answer.status}", answer.status)
        yield content


def updater(installation: Installation, folder: Path, vehicle: AVehicle | None) -> Updater:
    """A client of others, pointed at the Director."""
    folder.mkdir()
    return Updater(
        str(folder),
        installation.endpoints["director"] + "/metadata/",
        fetcher=WithCertificate(installation, folder, vehicle),
        bootstrap=(installation.data / "provisioning" / "director-root.json").read_bytes(),
    )


def test_an_unmodified_client_verifies_what_the_director_says(installation: Installation, tmp_path: Path) -> None:
    """Outside tools can be pointed at a vehicle's Director: what they find there is what the vehicle is told."""
    (vehicle, other) = enrolled(
        installation, AVehicle("bench-1", region="bench"), AVehicle("bench-2", region="elsewhere")
    )
    plan = f"release: {RELEASE}\nholdout: 0%\ntarget: {{region: [bench]}}\nwaves: [{{name: all}}]\n"
    installation.must("rollout", "start", installation.write("bench.yaml", plan), "--yes", "--id", "bench")
    offered(vehicle)
    client = updater(installation, tmp_path / "one", vehicle)
    client.refresh()
    signed = json.loads((tmp_path / "one" / "targets.json").read_bytes())["signed"]
    assert signed["vehicleId"] == vehicle.vehicle_id
    assert len(signed["targets"]) == 2
    assert all(client.get_targetinfo(path) for path in signed["targets"])
    updater(installation, tmp_path / "two", other).refresh()
    theirs = json.loads((tmp_path / "two" / "targets.json").read_bytes())["signed"]
    assert (theirs["vehicleId"], theirs["targets"]) == (other.vehicle_id, {})


@pytest.mark.uptane("D2")
def test_nobody_without_a_vehicles_certificate_reads_the_director(installation: Installation, tmp_path: Path) -> None:
    """What a car runs is nobody's business but its own."""
    with pytest.raises(OSError, match=r"(?i)certificate|ssl|alert|reset|closed"):
        list(
            updater(installation, tmp_path / "none", None)._fetcher._fetch(
                installation.endpoints["director"] + "/metadata/timestamp.json"
            )
        )
