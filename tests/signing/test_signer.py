"""The signer process: signs assignments and nothing else, for its owner only, and comes back after every death."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import Metadata, Timestamp

from signing.ceremony import DataFolder
from signing.change import sign_change
from signing.change_edits import begin, edit_root, rotating
from signing.change_publication import publish_director
from signing.director import (
    AssignedImage,
    Assignment,
    DirectorSigners,
    DirectorVersions,
    Renewal,
    SnapshotPin,
    director_files,
)
from signing.errors import SignerRefusedError, SignerUnavailableError
from signing.keys import load_signer, save_signer
from signing.roots import newest_root
from signing.signer import SignerClient
from signing.signer_wire import REQUEST_MAX_BYTES, renewal_value, request_value
from tests.evidence import without_attesters
from tests.signing.uptane_simulator import NOW

pytestmark = pytest.mark.processes

IMAGE = AssignedImage("acme/gw-1.1.0.img", 130, "ab" * 32, "acme-gw-1", 2, ("PRIMARY-1",))
ASSIGNMENT = Assignment("veh-1", (IMAGE,))
VERSIONS = DirectorVersions(7, NOW, 9, NOW + timedelta(hours=1))


@pytest.fixture
def data(data: DataFolder) -> DataFolder:
    """Whether images are vouched for is the matter of `test_ingest_gate`; here nobody has to."""
    without_attesters(data)
    return data


def signer_arguments(socket_path: Path, data: DataFolder) -> list[Path]:
    """What a signer of a data folder is started with."""
    return [socket_path, data.director_keys, data.director_metadata, data.image_repo]


@contextmanager
def signer_process(socket_path: Path, data: DataFolder) -> Iterator[subprocess.Popen[str]]:
    """Start a signer, wait until it says that it listens, and end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "signing.signer", *signer_arguments(socket_path, data)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        first = json.loads(process.stderr.readline())
        assert first["event"] == "signer_started", first
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="module")
def running(pristine: DataFolder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One signer for the tests that cannot harm it, if they pass."""
    folder = Path(tempfile.mkdtemp(prefix="signer-"))
    own = DataFolder(shutil.copytree(pristine.path, tmp_path_factory.mktemp("running") / "data"))
    without_attesters(own)
    with signer_process(folder / "s", own):
        yield folder / "s"
    shutil.rmtree(folder)


async def test_the_process_signs_what_the_function_signs(data: DataFolder, socket_path: Path, client: SignerClient):
    """Pure in here, pure over there: the very same bytes."""
    expected = director_files(DirectorSigners.load(data.director_keys), ASSIGNMENT, VERSIONS)
    with signer_process(socket_path, data):
        assert await client.director_files(ASSIGNMENT, VERSIONS) == expected


async def test_the_process_signs_a_timestamp_alone(data: DataFolder, socket_path: Path, client: SignerClient):
    """What a quiet vehicle needs once a day: one signature, over what was signed before."""
    signers = DirectorSigners.load(data.director_keys)
    snapshot = director_files(signers, ASSIGNMENT, VERSIONS)["7.snapshot.json"]
    pin = SnapshotPin(7, len(snapshot), hashlib.sha256(snapshot).hexdigest())
    later = replace(VERSIONS, timestamp_version=10, timestamp_issued_at=NOW + timedelta(hours=13))
    with signer_process(socket_path, data):
        alone = await client.director_timestamp(Renewal("veh-1", 10, later.timestamp_issued_at, pin))
        assert alone == (await client.director_files(ASSIGNMENT, later))["timestamp.json"]
        with pytest.raises(SignerRefusedError, match="no snapshot has 0 bytes"):
            await client.director_timestamp(Renewal("veh-1", 10, NOW, replace(pin, length=0)))


def test_the_socket_is_for_its_owner_only(data: DataFolder, socket_path: Path):
    """Whoever may open it can have assignments signed."""
    with signer_process(socket_path, data):
        assert stat.S_IMODE(socket_path.stat().st_mode) == 0o600


@pytest.mark.uptane("K1")
async def test_the_process_reads_the_online_keys_only(data: DataFolder, socket_path: Path, client: SignerClient):
    """The Director's root keys are on tokens elsewhere; a stolen signer must not find them."""
    for number in (1, 2, 3):
        (data.director_keys / f"root-{number}.pem").unlink()
    with signer_process(socket_path, data):
        assert await client.director_files(ASSIGNMENT, VERSIONS)


async def test_concurrent_requests_get_their_own_answers(data: DataFolder, socket_path: Path, client: SignerClient):
    """More requests than connections: each waits for its turn, none gets another vehicle's files."""
    with signer_process(socket_path, data):
        answers = await asyncio.gather(
            *(client.director_files(Assignment(f"veh-{number}", ()), VERSIONS) for number in range(100))
        )
    for number, files in enumerate(answers):
        assert {json.loads(content)["signed"]["vehicleId"] for content in files.values()} == {f"veh-{number}"}


async def test_a_restarted_signer_is_found_again(data: DataFolder, socket_path: Path, client: SignerClient):
    """Kill -9 of the signer costs errors while it is away, nothing afterwards."""
    with signer_process(socket_path, data) as process:
        first = await client.director_files(ASSIGNMENT, VERSIONS)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with pytest.raises(SignerUnavailableError):
        await client.director_files(ASSIGNMENT, VERSIONS)
    # The killed signer has left its socket behind; the next one has to clear it.
    with signer_process(socket_path, data):
        assert await client.director_files(ASSIGNMENT, VERSIONS) == first


async def test_an_idle_connection_that_died_costs_nothing(data: DataFolder, socket_path: Path, client: SignerClient):
    """The signer was replaced between two requests: the client sees only that it works."""
    with signer_process(socket_path, data):
        await client.director_files(ASSIGNMENT, VERSIONS)
    with signer_process(socket_path, data):
        assert await client.director_files(ASSIGNMENT, VERSIONS)


async def test_a_request_that_is_refused_says_why(data: DataFolder, socket_path: Path, client: SignerClient):
    """The caller's mistake is an error of its own kind: repeating does not help."""
    with signer_process(socket_path, data):
        with pytest.raises(SignerRefusedError, match="not a vehicle id"):
            await client.director_files(Assignment("../x", ()), VERSIONS)
        huge = replace(IMAGE, ecu_serials=tuple(f"ECU-{number:055d}" for number in range(1500)))
        with pytest.raises(SignerRefusedError, match="at most"):
            await client.director_files(Assignment("veh-1", (huge,)), VERSIONS)
        assert await client.director_files(ASSIGNMENT, VERSIONS), "the connection is still good"


def raw(socket_path: Path, data: bytes) -> bytes:
    """Speak to the signer without the client's manners; everything it answers until it closes or is silent."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(socket_path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


def framed(value: object) -> bytes:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return struct.pack(">I", len(data)) + data


def changed(**changes: object) -> dict[str, object]:
    return request_value(ASSIGNMENT, VERSIONS) | changes


VERSION_FIELDS = request_value(ASSIGNMENT, VERSIONS)["versions"]
RENEWAL = renewal_value(Renewal("veh-1", 10, NOW, SnapshotPin(7, 400, "ab" * 32)))["renewal"]


@pytest.mark.parametrize(
    "request_data",
    [
        framed(b""),
        framed(b"\xff"),
        framed(b"[" * 60000),
        framed([]),
        framed({}),
        framed({"sign": "anything"}),
        framed(changed(payload="sign this as well")),
        framed(changed(assignment=[])),
        framed(changed(assignment={"vehicle_id": "veh-1"})),
        framed(changed(assignment={"vehicle_id": 1, "images": []})),
        framed(changed(assignment={"vehicle_id": "veh-1", "images": [1]})),
        framed(changed(assignment={"vehicle_id": "veh-1", "images": [{"path": "x"}]})),
        framed(changed(versions=VERSION_FIELDS | {"version": "7"})),
        framed(changed(versions=VERSION_FIELDS | {"version": True})),
        framed(changed(versions=VERSION_FIELDS | {"issued_at": "now"})),
        framed(changed(versions=VERSION_FIELDS | {"version": 0})),
        framed({"renewal": []}),
        framed(changed(renewal=RENEWAL)),
        framed({"renewal": RENEWAL | {"payload": "sign this as well"}}),
        framed({"renewal": RENEWAL | {"issued_at": "now"}}),
        framed({"renewal": RENEWAL | {"snapshot": {"version": 7, "length": 400}}}),
        framed({"renewal": RENEWAL | {"snapshot": {"version": 7, "length": 400, "sha256": '"}'}}}),
        struct.pack(">I", REQUEST_MAX_BYTES + 1),
        struct.pack(">I", 2**32 - 1) + b"x" * 100,
    ],
)
async def test_anything_but_an_assignment_is_refused(running: Path, request_data: bytes):
    """Whoever reaches the socket can have no bytes of their own signed, and cannot stop the signer."""
    answer = json.loads(raw(running, request_data)[4:])
    assert set(answer) == {"error"}
    assert answer["error"]["code"] in ("malformed", "refused")
    client = SignerClient(running)
    assert await client.director_files(ASSIGNMENT, VERSIONS)
    await client.close()


def test_refusals_are_logged(data: DataFolder, socket_path: Path):
    """What somebody tried to have signed is for the record."""
    with signer_process(socket_path, data) as process:
        raw(socket_path, framed({"sign": "anything"}))
        assert process.stderr is not None
        line = json.loads(process.stderr.readline())
    assert (line["event"], line["process"]) == ("request_refused", "signer")
    assert "request has the fields" in line["cause"]


async def test_half_a_request_does_not_keep_the_signer_busy(data: DataFolder, socket_path: Path, client: SignerClient):
    """A peer that starts a request and goes silent holds only its own connection."""
    with signer_process(socket_path, data), socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(socket_path))
        silent.sendall(struct.pack(">I", 1000) + b"{")
        assert await client.director_files(ASSIGNMENT, VERSIONS)


async def test_the_process_takes_up_the_keys_of_a_new_root(data: DataFolder, socket_path: Path, client: SignerClient):
    """A rotation needs no restart, and the moment it is published the old key signs nothing more."""
    save_signer(CryptoSigner.generate_ed25519(), data.director_keys / "timestamp-2.pem")
    fresh = load_signer(data.director_keys, "timestamp-2").public_key
    with signer_process(socket_path, data):
        before = await client.director_files(ASSIGNMENT, VERSIONS)
        change = begin("director", newest_root(data.director_metadata))
        change = edit_root(change, rotating("timestamp", [], [fresh]), NOW)
        for name in ("root-1", "root-2"):
            change, _ = sign_change(change, load_signer(data.director_keys, name))
        publish_director(change, data, NOW)
        after = await client.director_files(ASSIGNMENT, VERSIONS)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"timestamp.json"}
    newest_root(data.director_metadata).signed.verify_delegate(
        "timestamp", *_payload(Metadata[Timestamp].from_bytes(after["timestamp.json"]))
    )


def _payload(metadata: Metadata[Timestamp]) -> tuple[bytes, dict[str, Signature]]:
    return metadata.signed_bytes, metadata.signatures


async def test_a_new_root_whose_key_is_missing_is_refused_not_signed_by_the_old(
    data: DataFolder, socket_path: Path, client: SignerClient
):
    """Files by a key that was taken away would look like an attack to every vehicle."""
    save_signer(CryptoSigner.generate_ed25519(), data.director_keys / "timestamp-2.pem")
    change = edit_root(
        begin("director", newest_root(data.director_metadata)),
        rotating("timestamp", [], [load_signer(data.director_keys, "timestamp-2").public_key]),
        NOW,
    )
    for name in ("root-1", "root-2"):
        change, _ = sign_change(change, load_signer(data.director_keys, name))
    with signer_process(socket_path, data):
        await client.director_files(ASSIGNMENT, VERSIONS)
        publish_director(change, data, NOW)
        (data.director_keys / "timestamp-2.pem").unlink()
        with pytest.raises(SignerRefusedError, match="not the timestamp key"):
            await client.director_files(ASSIGNMENT, VERSIONS)


async def test_an_encrypted_online_key_is_opened_by_the_environment(
    data: DataFolder, socket_path: Path, client: SignerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nobody watches the signer start; without its password it says which file wants one, and does not start."""
    expected = director_files(DirectorSigners.load(data.director_keys), ASSIGNMENT, VERSIONS)
    signer = load_signer(data.director_keys, "timestamp")
    (data.director_keys / "timestamp.pem").unlink()
    save_signer(signer, data.director_keys / "timestamp.pem", password="correct horse battery")
    cause = failure(socket_path, data)["cause"]
    assert "timestamp.pem is encrypted: set OUTRIDER_KEY_PASSWORD_FILE" in cause
    (tmp_path / "pw").write_text("correct horse battery\n")
    monkeypatch.setenv("OUTRIDER_KEY_PASSWORD_FILE", str(tmp_path / "pw"))
    with signer_process(socket_path, data):
        assert await client.director_files(ASSIGNMENT, VERSIONS) == expected


def test_sigterm_ends_it_and_removes_the_socket(data: DataFolder, socket_path: Path):
    """A supervisor's way to end it."""
    with signer_process(socket_path, data) as process:
        process.terminate()
        assert process.wait(10) == 0
    assert not socket_path.exists()


def failure(socket_path: Path, data: DataFolder) -> dict[str, str]:
    process = subprocess.run(
        [sys.executable, "-m", "signing.signer", *signer_arguments(socket_path, data)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert process.returncode == 1
    return json.loads(process.stderr.splitlines()[-1])


def test_a_second_signer_does_not_take_the_socket_away(data: DataFolder, socket_path: Path):
    """Two supervisors on one folder: the second is told, the first goes on."""
    with signer_process(socket_path, data) as process:
        assert "another signer" in failure(socket_path, data)["cause"]
        assert process.poll() is None
        assert socket_path.exists()


def test_missing_keys_and_odd_sockets_are_said_in_one_line(data: DataFolder, socket_path: Path, tmp_path: Path):
    """One JSON line with the remedy; no stack trace."""
    key = data.director_keys / "snapshot.pem"
    key.rename(tmp_path / "away.pem")
    assert "outrider keys init" in failure(socket_path, data)["cause"]
    (tmp_path / "away.pem").rename(key)
    socket_path.write_text("a file")
    assert "no socket" in failure(socket_path, data)["cause"]
    assert socket_path.read_text() == "a file"
    long_path = tmp_path / ("x" * 120)
    assert str(long_path) in failure(long_path, data)["cause"]
