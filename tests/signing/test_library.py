"""The verifier as a library: the guide's example runs as it stands, and brings nothing of the service with it."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from signing.ceremony import DataFolder
from signing.director import AssignedImage, Assignment, DirectorSigners, DirectorVersions, director_files
from signing.image_repo import ImageRepository, NewImage
from tests.repo.checkout import text_of
from tests.signing.uptane_simulator import NOW

FOREIGN = ("orchestrator", "agent_sim", "outrider", "grpc", "redis", "aiohttp", "pydantic", "typer", "structlog")


def example() -> str:
    [block] = re.findall(r"^```python\n(.*?)^```", text_of("docs/verify.md"), flags=re.MULTILINE | re.DOTALL)
    return str(block)


def run(code: str, folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def vehicle(data: DataFolder, tmp_path: Path) -> Path:
    """A folder as the guide has it: what a factory gave, and what came from somewhere."""
    (tmp_path / "image").write_bytes(b"gateway 1.1")
    repository = ImageRepository(data.image_repo)
    image = NewImage("acme/gw-1.1.img", tmp_path / "image", "acme-gw-1", 2, "1.1.0")
    [info] = repository.publish([image], data.image_keys, NOW)
    entry = AssignedImage(info.path, info.length, info.sha256, info.hardware_id, info.release_counter, ("GW-1",))
    signers = DirectorSigners.load(data.director_keys)
    director = director_files(signers, Assignment("v-0001", (entry,)), DirectorVersions(7, NOW, 7, NOW))
    folder = tmp_path / "vehicle"
    for name in ("got/director", "got/image", "got/images", "provisioning"):
        (folder / name).mkdir(parents=True)
    for name, content in director.items():
        (folder / "got" / "director" / name).write_bytes(content)
    for path in (data.image_repo / "metadata").glob("*.json"):
        if not path.name.startswith("1."):
            (folder / "got" / "image" / path.name).write_bytes(path.read_bytes())
    for name in ("director-root.json", "image-root.json"):
        (folder / "provisioning" / name).write_bytes((data.provisioning / name).read_bytes())
    (folder / "got" / "images" / info.sha256).write_bytes(b"gateway 1.1")
    (folder / "got" / "time").write_text(NOW.isoformat())
    return folder


def test_the_guide_s_example_installs_and_refuses(vehicle: Path):
    """What a reader copies has to work, the second time as well, and to say why when it does not."""
    for _ in range(2):
        assert run(example(), vehicle) == "install acme/gw-1.1.img on GW-1\n"
    (vehicle / "got" / "time").write_text((NOW + timedelta(days=2)).isoformat())
    assert run(example(), vehicle).startswith("refused, freeze: ")
    (vehicle / "got" / "time").write_text((NOW - timedelta(days=2)).isoformat())
    assert run(example(), vehicle).startswith("refused, clock: ")


def test_the_library_brings_nothing_of_the_service():
    """Every module that the guide names; an agent in a vehicle has no room for a server."""
    names = sorted(set(re.findall(r"\[`(signing\.\w+)`\]", text_of("docs/verify.md"))))
    assert len(names) >= 8
    code = f"import sys, {', '.join(names)}; print(sorted(set({FOREIGN}) & set(sys.modules)))"
    assert run(code, Path.cwd()) == "[]\n"
