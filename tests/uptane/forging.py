"""An attacker's pen: metadata that python-tuf's objects refuse to be, signed all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner


def forge(content: bytes, change: Callable[[dict[str, Any]], object], signers: Sequence[CryptoSigner]) -> bytes:
    """The file with its signed part changed, signed anew.

    Args:
        content: A metadata file.
        change: Edits the signed part in place.
        signers: Keys that the attacker has.
    """
    payload = json.loads(content)["signed"]
    change(payload)
    signed = encode_canonical(payload).encode()
    envelope = {"signatures": [signer.sign(signed).to_dict() for signer in signers], "signed": payload}
    return json.dumps(envelope, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
