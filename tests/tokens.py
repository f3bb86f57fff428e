"""A PKCS#11 token for tests, on SoftHSM: P-256 keys that never leave it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PIN = "1234"
LIBRARIES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so")
LIBRARY = next((path for path in LIBRARIES if Path(path).exists()), "")

needs_softhsm = pytest.mark.skipif(
    not LIBRARY or shutil.which("softhsm2-util") is None,
    reason="SoftHSM is not installed; apt-get install softhsm2 runs these",
)


@contextmanager
def a_token(folder: Path, label: str, numbers: range, pkcs11: Any) -> Iterator[None]:
    """A token with one key for each of these numbers, while the environment leads there.

    One for all tests of a process: the library stays loaded in it, with the first token that it saw.
    """
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        patch.setenv("PYKCS11LIB", LIBRARY)
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", "5678"],
            check=True,
            capture_output=True,
        )
        with pkcs11.lib(LIBRARY).get_token(token_label=label).open(user_pin=PIN, rw=True) as session:
            for number in numbers:
                parameters = session.create_domain_parameters(
                    pkcs11.KeyType.EC,
                    {pkcs11.Attribute.EC_PARAMS: pkcs11.util.ec.encode_named_curve_parameters("secp256r1")},
                    local=True,
                )
                parameters.generate_keypair(store=True, id=bytes([number]), label=label)
        yield
