"""A static copy behind a web server that knows nothing of us, and a TUF client that nobody changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tuf.ngclient import Updater

from orchestrator.cli.local import certificate_time
from signing.ceremony import initialise
from tests.processes import STOP_TIMEOUT_S, eventually, run_cli
from tests.signing.suppliers import Suppliers

pytestmark = pytest.mark.processes


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Python's own web server on a free port."""
    log = folder.with_suffix(".log")
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        line = eventually(lambda: log.read_text().partition("\n")[0] if "port" in log.read_text() else "", what="port")
        yield f"http://127.0.0.1:{line.split('port ')[1].split()[0]}"
    finally:
        process.kill()
        process.wait(STOP_TIMEOUT_S)


@pytest.mark.uptane("I1", "M2", "M11", "M15")
def test_an_unmodified_client_gets_our_image_and_a_suppliers_from_a_static_copy(tmp_path: Path) -> None:
    """What is exported is TUF, not what our own reader makes of it; one with a path of folders, and one without."""
    data = initialise(tmp_path / "data", trust_domain="test", now=certificate_time())
    suppliers = Suppliers(data, tmp_path, certificate_time())
    ours = suppliers.image("gw-2.img", hardware_id="acme-gw-1")
    suppliers.repository.publish([ours], data.image_keys, suppliers.now)
    suppliers.add("acme")
    theirs = suppliers.image()
    suppliers.release("acme", theirs)
    done = run_cli("--data", data.path, "image-repo", "export", tmp_path / "mirror")
    assert done.exit_code == 0, done.stderr
    with served(tmp_path / "mirror") as address:
        client = Updater(
            str(tmp_path / "client"),
            f"{address}/metadata/",
            target_dir=str(tmp_path),
            target_base_url=f"{address}/targets/",
            bootstrap=(data.provisioning / "image-root.json").read_bytes(),
        )
        client.refresh()
        for image in (ours, theirs):
            target = client.get_targetinfo(image.path)
            assert target is not None
            got = client.download_target(target, str(tmp_path / "got"))
            assert Path(got).read_bytes() == image.file.read_bytes()
        assert client.get_targetinfo("acme/other.img") is None
