"""What ends is told long before: roots of the Director, server certificates."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from orchestrator.app.expiries import server_expiry, show_once, show_pending
from orchestrator.app.installation import Installation
from orchestrator.app.vitals import show_disk
from orchestrator.service.director import to_datetime
from orchestrator.telemetry import Metrics
from signing.ceremony import initialise
from signing.change import save_change
from signing.errors import SigningError
from signing.pki import Authority
from signing.roots import newest_root
from signing.supplier_edits import delegating, undelegating
from tests.builders import NOW
from tests.signing.suppliers import SCOPE, Suppliers, a_key

STARTED = to_datetime(NOW)


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("installation")
    initialise(folder, trust_domain="test", now=STARTED)
    return Installation(folder)


def test_everything_that_ends_is_told(installation: Installation):
    """What is not shown ends by surprise: three authorities, two roots, and what is signed below one of them."""
    metrics = Metrics(CollectorRegistry())
    show_once(installation, metrics)
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    ends = {tuple(sample.labels.values()): sample.value for sample in samples if "expiry" in sample.name}
    assert ends.keys() == {
        *(("server-authority",), ("vehicle-authority",), ("operator-authority",)),
        *(("image", role) for role in ("root", "targets", "snapshot", "timestamp")),
        ("director", "root"),
    }
    assert ends["image", "timestamp"] == (STARTED + timedelta(days=1)).timestamp()
    assert ends["director", "root"] == (STARTED + timedelta(days=365)).timestamp()


def test_a_suppliers_list_is_told_while_the_supplier_is_trusted(tmp_path: Path):
    """It ends by itself, whatever becomes of ours; the end of one that is gone would page somebody for nothing."""
    data = initialise(tmp_path / "data", trust_domain="test", now=STARTED)
    suppliers = Suppliers(data, tmp_path, STARTED)
    suppliers.add("acme")
    metrics = Metrics(CollectorRegistry())
    show_once(Installation(data.path), metrics)
    ends = metrics.registry.get_sample_value
    name, where = "outrider_metadata_expiry_timestamp_seconds", {"repository": "image", "role": "acme"}
    assert ends(name, where) == (suppliers.now + timedelta(days=90)).timestamp()
    suppliers.publish(suppliers.signed(suppliers.edit(undelegating("acme")), suppliers.releases))
    show_once(Installation(data.path), metrics)
    assert ends(name, where) is None


def test_a_change_that_waits_for_signatures_is_told_until_it_is_published(tmp_path: Path):
    """A ceremony that somebody forgot ends in a root that ends."""
    data = initialise(tmp_path / "data", trust_domain="test", now=STARTED)
    suppliers = Suppliers(data, tmp_path, STARTED)
    key = a_key("acme-1")
    change = suppliers.edit(delegating("acme", [key.public_key], SCOPE))
    metrics, value = Metrics(CollectorRegistry()), {"change": "image"}
    ask = metrics.registry.get_sample_value
    for signed, lacking in ((change, 2), (suppliers.signed(change, key), 1)):
        save_change(signed, data.pending("image"))
        show_pending(Installation(data.path), metrics)
        assert ask("outrider_signatures_lacking", value) == lacking
    data.pending("image").write_text("{}")
    show_pending(Installation(data.path), metrics)
    assert ask("outrider_signatures_lacking", value) is None


def test_the_newest_root_counts(installation: Installation, tmp_path: Path):
    """Version 10 is newer than version 9, whatever the alphabet says."""
    root = next(installation.director_metadata.glob("*.root.json")).read_bytes()
    (tmp_path / "9.root.json").write_bytes(b"{}")
    (tmp_path / "10.root.json").write_bytes(root)
    assert newest_root(tmp_path).signed.expires == STARTED + timedelta(days=365)


@pytest.mark.parametrize("content", [None, b"{}"])
def test_a_root_that_cannot_be_read_is_an_error_with_a_remedy(tmp_path: Path, content: bytes | None):
    """The loop logs it and looks again; the last known end stays, and comes nearer."""
    if content is not None:
        (tmp_path / "1.root.json").write_bytes(content)
    with pytest.raises(SigningError, match="restore it"):
        newest_root(tmp_path)


def test_a_server_certificate_ends_when_it_says(installation: Installation):
    """The chain begins with the server's own, not with its authority's."""
    authority = Authority.load(installation.authorities, "server")
    chain, _ = authority.issue_server(names=["localhost"], now=STARTED, life=timedelta(days=5))
    assert server_expiry(chain) == pytest.approx((STARTED + timedelta(days=5)).timestamp(), abs=1)


def test_the_disk_is_that_of_the_data_folder(installation: Installation):
    """Free and size belong together, or the share means nothing."""
    metrics = Metrics(CollectorRegistry())
    show_disk(installation, metrics)
    free = metrics.registry.get_sample_value("outrider_disk_free_bytes", {"folder": "data"})
    size = metrics.registry.get_sample_value("outrider_disk_size_bytes", {"folder": "data"})
    assert free is not None
    assert size is not None
    assert 0 < free < size
