"""The gate before suppliers' images: every link of the chain that lists one is verified by the link before."""

from __future__ import annotations

from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets

from signing.ceremony import DataFolder
from signing.errors import SigningError
from signing.ingest_gate import IngestGate
from tests.evidence import vouched_for
from tests.signing.suppliers import Suppliers
from tests.signing.test_ingest_gate import assigned


class Chain:
    """An image of the last of three suppliers, each trusted by the one before, for which `attest` vouches."""

    def __init__(self, data: DataFolder, folder: Path) -> None:
        suppliers = Suppliers(data, folder)
        suppliers.add("first")
        suppliers.add("second", by="first")
        suppliers.add("third", by="second")
        image = suppliers.image()
        suppliers.release("third", image)
        self.folder, self.gate = suppliers.repository.metadata.folder, IngestGate(data.image_repo)
        (info,) = suppliers.repository.publish([vouched_for(image, data.image_keys)], data.image_keys, suppliers.now)
        self.image = assigned(info)


@pytest.mark.uptane("M11")
def test_an_image_of_a_supplier_s_supplier_s_supplier_passes(data: DataFolder, tmp_path: Path):
    """As deep as suppliers hand on what they may list, each by the keys of its own delegator."""
    chain = Chain(data, tmp_path)
    assert chain.gate.fault(chain.image) is None


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_a_supplier_s_list_that_is_gone_lists_nothing(data: DataFolder, tmp_path: Path, name: str):
    """Who can write the folder can take an image off the road, and no more."""
    chain = Chain(data, tmp_path)
    for file in chain.folder.glob(f"*.{name}.json"):
        file.unlink()
    assert chain.gate.fault(chain.image) == "the Image repository does not list it"


@pytest.mark.parametrize("name", ["first", "second", "third"])
def test_a_supplier_s_list_that_its_delegator_s_keys_did_not_sign_directs_nothing(
    data: DataFolder, tmp_path: Path, name: str
):
    """A thief of the orchestrator may write a list in a supplier's name; it is said as what it is."""
    chain = Chain(data, tmp_path)
    file = max(chain.folder.glob(f"*.{name}.json"))
    forged = Metadata[Targets].from_bytes(file.read_bytes())
    forged.signatures = {}
    forged.sign(CryptoSigner.generate_ecdsa())
    file.write_bytes(forged.to_bytes())
    with pytest.raises(SigningError, match="cannot be verified"):
        chain.gate.fault(chain.image)
