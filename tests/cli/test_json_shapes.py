"""JSON is stable: the names and types of every command's document, kept in json_shapes.json.

`OUTRIDER_WRITE_SHAPES=1 pytest -n 0 tests/cli/test_json_shapes.py` writes the file anew, for a change that is meant and
stands in CHANGELOG.md.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from outrider.v1 import case_pb2, fleet_pb2, ledger_pb2, release_pb2, rollout_pb2
from securesystemslib.signer import CryptoSigner

from orchestrator.app.installation import Installation
from orchestrator.app.ledger_heads import seal_day
from orchestrator.ledger import Ledger
from orchestrator.store.redis.embedded import EmbeddedServer
from signing.ceremony import DataFolder
from signing.image_repo import ImageRepository, NewImage
from tests.cli.conftest import Outrider
from tests.cli.server import FLEET_TIME, OperatorServer
from tests.cli.test_main import COMMANDS
from tests.cli.test_store_verify import miscount
from tests.evidence import believe, evidence_fields, vouched_for
from tests.ledger.entries import an_entry

FILE = Path(__file__).with_name("json_shapes.json")
GOLDEN: Mapping[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
WRITE_VARIABLE = "OUTRIDER_WRITE_SHAPES"
DEPTH_MAX = 6
CSV = (
    "vehicle_id,model,hardware,region,cohort,tags,ecu_serial,hardware_id,primary,public_key\n"
    "v1,S,g,eu,c,,e,h,true,AA==\n"
)
WITHOUT_JSON = frozenset({"serve", "rollout schema"})
"""Commands that have no answer, or one that is a file of its own (docs/plan.schema.json)."""


@dataclass(frozen=True)
class Case:
    """How a command is brought to answer."""

    arguments: tuple[str, ...] = ()
    answers: Mapping[str, type[Message]] = field(default_factory=dict)
    """By method; each with every field filled."""
    before: Callable[[Path, Outrider], object] | None = None
    """What must be there first."""


def with_file(name: str, text: str) -> Callable[[Path, Outrider], object]:
    return lambda data, outrider: Path(name).write_text(text, encoding="utf-8")


def with_keys(data: Path, outrider: Outrider) -> None:
    (data / "endpoints.json").rename(data / "endpoints.kept")
    (data / "operators").rename(data / "operators-kept")
    assert outrider("keys", "init").exit_code == 0
    for path in (data / "operators").iterdir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    (data / "operators").rmdir()
    (data / "operators-kept").rename(data / "operators")
    (data / "endpoints.kept").rename(data / "endpoints.json")


ROOT_1, ROOT_2 = (f"data/keys/director/root-{number}.pem" for number in (1, 2))


def without_server(data: Path, outrider: Outrider) -> None:
    with_keys(data, outrider)
    (data / "endpoints.json").unlink()


def with_spare_key(data: Path, outrider: Outrider) -> None:
    without_server(data, outrider)
    assert outrider("keys", "make", "data/keys/root-9.pem", "--unencrypted").exit_code == 0


DELEGATE = ("keys", "delegate", "acme", "acme=data/keys/root-9.pem", "--path", "acme/*")


def with_supplier(data: Path, outrider: Outrider) -> None:
    with_spare_key(data, outrider)
    assert outrider(*DELEGATE).exit_code == 0
    for key in ("image/targets.pem", "root-9.pem"):
        assert outrider("keys", "sign", "data/pending/image.json", "--key", f"data/keys/{key}", "--yes").exit_code == 0
    assert outrider("keys", "publish", "data/pending/image.json").exit_code == 0


def with_list(data: Path, outrider: Outrider) -> None:
    with_supplier(data, outrider)
    assert outrider("keys", "renew", "image", "acme", "--out", "acme.json").exit_code == 0
    Path("a.img").write_bytes(b"image")
    image = "{file: a.img, hardware_id: acme-gw-2, path: acme/a.img, release_counter: 2}"
    Path("release.yaml").write_text(f"version: 1.1.0\nimages: [{image}]\n", encoding="utf-8")


def with_change(data: Path, outrider: Outrider) -> None:
    without_server(data, outrider)
    assert outrider("keys", "renew", "director").exit_code == 0


def with_signed_change(data: Path, outrider: Outrider) -> None:
    with_change(data, outrider)
    for key in (ROOT_1, ROOT_2):
        assert outrider("keys", "sign", "data/pending/director.json", "--key", key, "--yes").exit_code == 0
    Path("copy.json").write_bytes((data / "pending" / "director.json").read_bytes())


def with_release(data: Path, outrider: Outrider) -> None:
    with_keys(data, outrider)
    Path("a.img").write_bytes(b"image")
    believe(data)
    evidence = evidence_fields(Path("a.img"))
    images = f"images: [{{file: a.img, hardware_id: acme-gw-2, release_counter: 2, {evidence}}}]\n"
    Path("release.yaml").write_text(f"version: 1.1.0\n{images}", encoding="utf-8")


def with_listed_image(data: Path, outrider: Outrider) -> None:
    with_release(data, outrider)
    folder = DataFolder(data)
    image = NewImage("a.img", Path("a.img"), "acme-gw-2", 2, "1.1.0")
    image = vouched_for(image, [CryptoSigner.generate_ed25519()])
    ImageRepository(folder.image_repo).publish([image], folder.image_keys, FLEET_TIME)


def with_store(data: Path, outrider: Outrider) -> None:
    store = EmbeddedServer(data / "store")
    store.start()
    store.stop()
    [newest] = (data / "store" / "appendonlydir").glob("*.incr.aof")
    newest.write_bytes(newest.read_bytes() + b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500\r\ntorn")


def with_wrong_counters(data: Path, outrider: Outrider) -> None:
    store = EmbeddedServer(data / "store")
    store.start()
    miscount(store.socket_path)
    store.stop()


def with_ledger(data: Path, outrider: Outrider) -> None:
    async def write() -> None:
        ledger = Ledger(data / "ledger.sqlite3")
        await ledger.set_dataset_id("one")
        await ledger.append([an_entry(1)])
        await seal_day(Installation(data), ledger, 20_000, at=0)
        await ledger.close()

    asyncio.run(write())


def with_house(data: Path, outrider: Outrider) -> None:
    """What an orchestrator leaves behind: keys, a store that rests, and a ledger."""
    with_keys(data, outrider)
    store = EmbeddedServer(data / "store")
    store.start()
    store.stop()
    with_ledger(data, outrider)


def with_house_and_notes(data: Path, outrider: Outrider) -> None:
    with_house(data, outrider)
    (data / "notes.txt").touch()


def with_backup(data: Path, outrider: Outrider) -> None:
    with_house(data, outrider)
    outrider("--data", data, "backup", "a.backup")
    shutil.rmtree(data)


REASON = ("--reason", "why")
CHANGES = ("StartRollout", "PauseRollout", "ResumeRollout", "AbortRollout", "ApproveWave", "PostSignal", "ClearSignal")
CHANGED = dict.fromkeys(CHANGES, rollout_pb2.Rollout)
STARTED = {"PreviewRollout": rollout_pb2.PreviewRolloutResponse, "CreateRollout": rollout_pb2.Rollout}
CASES: Mapping[str, Case] = {
    "keys init": Case(("--data", "fresh")),
    "keys make": Case(("new.pem", "--unencrypted")),
    "keys use": Case(
        ("image", "timestamp", "awskms:alias/t", "--public", "data/keys/root-9.pem"), before=with_spare_key
    ),
    "keys renew": Case(("director",), before=without_server),
    "keys add": Case(("director", "root", "data/keys/root-9.pem"), before=with_spare_key),
    "keys revoke": Case(("director", "root-1"), before=without_server),
    "keys rotate": Case(("director", "timestamp"), before=without_server),
    "keys threshold": Case(("director", "root", "3"), before=without_server),
    "keys delegate": Case(DELEGATE[2:], before=with_spare_key),
    "keys undelegate": Case(("acme",), before=with_supplier),
    "release supply": Case(("release.yaml", "acme.json"), before=with_list),
    "keys show": Case(("data/pending/director.json",), before=with_change),
    "keys sign": Case(("data/pending/director.json", "--key", ROOT_1, "--yes"), before=with_change),
    "keys collect": Case(("data/pending/director.json", "copy.json"), before=with_signed_change),
    "keys status": Case((), before=with_change),
    "keys publish": Case(("data/pending/director.json",), before=with_signed_change),
    "ca issue-operator": Case(("eve", "--role", "viewer"), before=with_keys),
    "ca renew": Case(("server", "--days", "7300"), before=with_keys),
    "doctor": Case(before=with_keys),
    "backup": Case(("a.backup",), before=with_house_and_notes),
    "restore": Case(("a.backup",), before=with_backup),
    "store repair": Case(before=with_store),
    "store verify": Case(("--repair", *REASON), before=with_wrong_counters),
    "image-repo export": Case(("mirror",), before=with_keys),
    "image-repo renew": Case((), {"ListRollouts": rollout_pb2.ListRolloutsResponse}, before=with_keys),
    "ledger verify": Case(before=with_ledger),
    "ledger head": Case(before=with_ledger),
    "ledger export": Case(("all.jsonl",), before=with_ledger),
    "ledger archive": Case(("old.jsonl", "--before", "2100-01-01", *REASON), before=with_ledger),
    "ledger outcomes": Case(("spring",), before=with_ledger),
    "ledger show": Case(
        ("spring",),
        {"ListLedgerEntries": ledger_pb2.ListLedgerEntriesResponse, "GetRollout": rollout_pb2.Rollout},
    ),
    "fleet import": Case(
        ("fleet.csv",), {"ImportVehicles": fleet_pb2.ImportVehiclesResponse}, before=with_file("fleet.csv", CSV)
    ),
    "fleet tokens": Case(("v1",), {"CreateEnrollmentTokens": fleet_pb2.CreateEnrollmentTokensResponse}),
    "fleet list": Case((), {"ListVehicles": fleet_pb2.ListVehiclesResponse}),
    "fleet revoke": Case(("v1", *REASON), {"RevokeVehicle": fleet_pb2.Vehicle}),
    "fleet set": Case(("v1", "--cohort", "c", "--yes", *REASON), {"UpdateVehicles": fleet_pb2.UpdateVehiclesResponse}),
    "fleet remove": Case(("v1", "--yes", *REASON), {"RemoveVehicles": fleet_pb2.RemoveVehiclesResponse}),
    "fleet quarantine": Case(("v1", "--yes", *REASON), {"ExcludeVehicles": fleet_pb2.ExcludeVehiclesResponse}),
    "fleet deny": Case(
        ("v1", "--rollout", "spring", "--yes", *REASON), {"ExcludeVehicles": fleet_pb2.ExcludeVehiclesResponse}
    ),
    "fleet count": Case(("--by", "region"), {"CountVehicles": fleet_pb2.CountVehiclesResponse}),
    "fleet export": Case(("--out", "export.csv"), {"ListVehicles": fleet_pb2.ListVehiclesResponse}),
    "release publish": Case(
        ("release.yaml", "--no-revert"),
        {"CreateRelease": release_pb2.Release, "ListRollouts": rollout_pb2.ListRolloutsResponse},
        before=with_release,
    ),
    "release attest": Case((), {"ListRollouts": rollout_pb2.ListRolloutsResponse}, before=with_listed_image),
    "release evidence": Case(("1.1.0", "--out", "audit"), before=with_listed_image),
    "release show": Case((), {"ListReleases": release_pb2.ListReleasesResponse}),
    "rehearse": Case(
        (
            *("plan.yaml", "--vehicles", "50", "--failure-rate", "0%", "--model", "1.3", "--garage", "0%"),
            *("--lost", "0%", "--breaks", "all=0%", "--outage", "all:50d+1h"),
        ),
        before=with_file("plan.yaml", "release: 1.1.0\nwaves: [{name: all}]\n"),
    ),
    "rollout preview": Case(("plan.yaml",), STARTED, before=with_file("plan.yaml", "release: 1.1.0\n")),
    "rollout start": Case(("plan.yaml", "--yes"), STARTED, before=with_file("plan.yaml", "release: 1.1.0\n")),
    "rollout revert": Case(
        ("spring", "--yes", *REASON), {**STARTED, "ProposeRevert": rollout_pb2.ProposeRevertResponse}
    ),
    "rollout status": Case(("spring",), {"GetRollout": rollout_pb2.Rollout}),
    "rollout watch": Case(("spring", "--until", "completed"), {"WatchRollout": rollout_pb2.Rollout}),
    "rollout list": Case((), {"ListRollouts": rollout_pb2.ListRolloutsResponse}),
    "rollout launch": Case(("spring", "--yes", *REASON), CHANGED),
    "rollout signal post": Case(("spring", "tows", "--value", "2", "--limit", "1", *REASON), CHANGED),
    "rollout signal clear": Case(("spring", "tows", *REASON), CHANGED),
    "rollout signal list": Case(("spring",), {"GetRollout": rollout_pb2.Rollout}),
    "rollout pause": Case(("spring", *REASON), CHANGED),
    "rollout resume": Case(("spring", *REASON), CHANGED),
    "rollout abort": Case(("spring", "--yes", *REASON), CHANGED),
    "rollout approve": Case(("spring", "--wave", "all", *REASON), CHANGED),
    "vehicle show": Case(("v1",), {"GetVehicle": fleet_pb2.Vehicle}),
    "vehicle explain": Case(("v1",), {"ExplainVehicle": fleet_pb2.ExplainVehicleResponse}),
    "case show": Case(
        ("spring.v1.1",),
        {"GetCase": case_pb2.Case, "ListLedgerEntries": ledger_pb2.ListLedgerEntriesResponse},
    ),
    "case close": Case(("spring.v1.1", *REASON), {"CloseCase": case_pb2.Case}),
    "case list": Case((), {"ListCases": case_pb2.ListCasesResponse}),
}
"""By command. A new command needs one."""


def filled(kind: type[Message], depth: int = 0) -> Message:
    """A message with every field set: one element in each list and map."""
    message = kind()
    for item in message.DESCRIPTOR.fields:
        if item.name == "next_page_token" or depth > DEPTH_MAX:
            continue
        put(message, item, depth)
    return message


def put(message: Message, item: FieldDescriptor, depth: int) -> None:
    """Set one field."""
    if item.message_type is not None and item.message_type.GetOptions().map_entry:
        getattr(message, item.name)["key"] = value_of(item.message_type.fields_by_name["value"], depth)
    elif item.message_type is not None and item.message_type.full_name == "google.protobuf.Struct":
        getattr(message, item.name).update({"rollout_id": "spring"})
    elif item.message_type is not None:
        value = filled(item.message_type._concrete_class, depth + 1)
        target = getattr(message, item.name)
        target.append(value) if item.is_repeated else target.CopyFrom(value)
    elif item.is_repeated:
        getattr(message, item.name).append(value_of(item, depth))
    else:
        setattr(message, item.name, value_of(item, depth))


def value_of(item: FieldDescriptor, depth: int) -> Any:
    """A value that is not the default; enums take `completed` where they have it, so that a watch ends."""
    if item.enum_type is not None:
        names = item.enum_type.values_by_name
        return names["ROLLOUT_STATUS_COMPLETED"].number if "ROLLOUT_STATUS_COMPLETED" in names else 1
    kinds = {
        FieldDescriptor.CPPTYPE_STRING: "x",
        FieldDescriptor.CPPTYPE_BOOL: True,
        FieldDescriptor.CPPTYPE_DOUBLE: 1.5,
    }
    if item.type == FieldDescriptor.TYPE_BYTES:
        return b"x"
    return kinds.get(item.cpp_type, 1)


def shape(value: Any) -> Any:
    """Names and types of a document: a list by its first element, an object by its names."""
    if isinstance(value, dict):
        return {name: shape(below) for name, below in sorted(value.items())}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def answered(name: str, server: OperatorServer, data: Path, outrider: Outrider) -> Any:
    """The shape of a command's document."""
    case = CASES[name]
    if case.before is not None:
        case.before(data, outrider)
    for method, kind in case.answers.items():
        server.will_answer(method, filled(kind))
        server.will_stream(method, [filled(kind)])
    outcome = outrider(*name.split(), *case.arguments, "-o", "json")
    document = outcome.stdout.splitlines()[0] if name == "image-repo renew" else outcome.stdout
    assert document, outcome.stderr
    return shape(json.loads(document))


def test_every_command_has_a_shape() -> None:
    """A new command's JSON is decided on, not stumbled into: give it a case here and write the file anew."""
    assert CASES.keys() | WITHOUT_JSON >= COMMANDS.keys()
    assert GOLDEN.keys() == CASES.keys()


@pytest.mark.parametrize("name", CASES)
def test_json_has_the_names_and_types_that_scripts_rely_on(
    name: str, server: OperatorServer, data: Path, outrider: Outrider
) -> None:
    """A name that changes breaks pipelines silently."""
    found = answered(name, server, data, outrider)
    if os.environ.get(WRITE_VARIABLE):
        kept = json.loads(FILE.read_text("utf-8")) if FILE.exists() else {}
        FILE.write_text(json.dumps({**kept, name: found}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    else:
        assert found == GOLDEN[name]
