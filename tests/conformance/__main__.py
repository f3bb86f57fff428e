"""`make conformance SUITE=...`: the TUF client conformance suite, from a checkout of it, against `client.py`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

EXPECTED = {
    "test_keytype_and_scheme and rsa": "keys are P-256 or Ed25519; no other is taken from a root",
}
"""What of the suite is left out (in the words of `pytest -k`), and why."""
HELP = """\
The suite is not on the package index. Get it, and the program that sets its clock:
  git clone https://github.com/theupdateframework/tuf-conformance
  apt-get install faketime
  make conformance SUITE=tuf-conformance
"""


def main(arguments: Sequence[str]) -> int:
    """Run the suite in the folder that is named; 0 when all of it passed, 2 when it is not there."""
    suite = Path(arguments[0]).resolve() if arguments else None
    if suite is None or not (suite / "tuf_conformance").is_dir() or shutil.which("faketime") is None:
        sys.stderr.write(HELP)
        return 2
    client = Path(__file__).with_name("client.py").resolve()
    os.chdir(suite)  # it looks for its data beneath the folder that it is started in
    sys.path.insert(0, str(suite))
    left_out = " or ".join(f"({name})" for name in EXPECTED)
    for name, reason in EXPECTED.items():
        sys.stdout.write(f"left out: {name}: {reason}\n")
    place = ["--rootdir", str(suite), "-c", os.devnull, "tuf_conformance"]
    under_test = ["--entrypoint", f"{sys.executable} {client}", "-k", f"not ({left_out})"]
    return int(pytest.main(["-q", "-p", "no:cacheprovider", *place, *under_test]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
