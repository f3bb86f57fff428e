"""The contract for vehicle agents: its clauses can be named, and the code bears its tables out."""

from __future__ import annotations

import ast
import base64
import hashlib
import re
from collections import Counter
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from google.rpc import code_pb2
from outrider.v1 import attempt_pb2, vehicle_pb2

from orchestrator.app.worker import TOKEN_LIFE_MS
from orchestrator.engine.attempts import TRANSITIONS
from orchestrator.engine.plan.file import read_plan
from orchestrator.engine.plan.nodes import PlanError
from orchestrator.model.attempt import AttemptEvent, AttemptState
from orchestrator.model.decision import RefusalReason
from orchestrator.rpc import servers
from orchestrator.rpc.convert.conditions import CODE_PATTERN, DIAGNOSTICS_MAX
from orchestrator.rpc.convert.polls import EVENTS_MAX, FAILURE_CODE_PATTERN, NUMBER_MAX, OUTBOX_PATTERN
from orchestrator.rpc.errors import CODES
from orchestrator.rpc.vehicle_servicer import MANIFEST_BYTES_MAX, NAMES_MAX
from orchestrator.service.call_rates import CALLS_MAX, WINDOW_MS, WORD_BYTES, WORDS_MAX, WORDS_WINDOW_MS
from orchestrator.settings import Settings
from orchestrator.store.refusals import REFUSED_BY_STATUS
from signing import delegations, manifest, tuf_client
from signing.errors import AttackCode, VerificationError
from signing.keys import public_key_from_base64
from signing.manifest import REPORT_AGE_MAX, REPORT_AHEAD_MAX, REPORTS_MAX, InventoryEcu, verify_manifest
from signing.pki import CSR_MAX_BYTES
from signing.tuf_client import DIRECTOR_CAPS, IMAGE_CAPS
from signing.verify import MAX_FILES
from tests.repo.checkout import sources, text_of

CONTRACT = "docs/agent-protocol.md"
CLAUSE = re.compile(r"^- \*\*(P-([A-Z]+)-(\d+))\*\* (MUST|SHOULD|MAY)\b(.*)$", flags=re.MULTILINE)
CLAUSE_TABLE = "agent_sim/conform/clauses.py"
"""Names every clause, those that it cannot judge with the reason."""
INSIDE = " *(inside)*"
"""Marks a clause that no judge outside of the vehicle can see."""


def clauses() -> dict[str, str]:
    """The text of every clause by its id."""
    return {match[1]: match[0] for match in CLAUSE.finditer(text_of(CONTRACT))}


def test_every_clause_has_an_id_of_its_own_and_says_how_much_it_binds() -> None:
    """A verdict names a clause by its id: two meanings of one id would judge the wrong thing."""
    items = [line for line in text_of(CONTRACT).splitlines() if line.startswith("- **P-")]
    matches = [match for line in items if (match := CLAUSE.fullmatch(line))]
    assert len(matches) == len(items), "a clause is `- **P-AREA-N** MUST|SHOULD|MAY ...` in one line"
    assert len(items) >= 40
    assert [name for name, times in Counter(match[1] for match in matches).items() if times > 1] == []


def test_clauses_of_an_area_are_numbered_without_holes() -> None:
    """A hole would be a clause that somebody took out, and its number would be given again."""
    areas: dict[str, list[int]] = {}
    for match in CLAUSE.finditer(text_of(CONTRACT)):
        areas.setdefault(match[2], []).append(int(match[3]))
    assert {area: numbers for area, numbers in areas.items() if numbers != list(range(1, len(numbers) + 1))} == {}


def test_what_the_judge_judges_stands_in_the_contract_and_can_be_seen_from_outside() -> None:
    """`conform` holds an author to this page: it must not know obligations that the page does not tell."""
    known = clauses()
    judge = [path for path in sources(".py") if path.startswith("agent_sim/conform/") and path != CLAUSE_TABLE]
    judged = {name for path in judge for name in named_clauses(path)}
    assert judged - set(known) == set()
    assert {name for name in judged if known[name].endswith(INSIDE)} == set()


def test_every_clause_that_is_mentioned_exists() -> None:
    """A reference to a clause is looked up."""
    mentioned = {
        name
        for path in sources(".py", ".md", ".proto")
        for name in named_clauses(path)
        if path != "tests/repo/test_agent_protocol.py"
    }
    assert mentioned - set(clauses()) == set()


def named_clauses(path: str) -> set[str]:
    """Every id of a clause in a file."""
    return set(re.findall(r"\bP-[A-Z]+-\d+\b", text_of(path)))


def test_diagrams_can_be_drawn() -> None:
    """A semicolon ends a line of a sequence diagram, and an angle bracket is taken for a tag."""
    blocks = re.findall(r"^```mermaid\n(.*?)^```", text_of(CONTRACT), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    assert [line for block in blocks for line in block.splitlines() if re.search(r";|<|>(?!>?[A-Z]: )", line)] == []


# Tables


def rows(heading: str) -> list[list[str]]:
    """The cells of every table row below a heading, header rows left out; code marks are taken off."""
    section = text_of(CONTRACT).split(f"\n{heading}\n", 1)[1]
    section = re.split(r"\n#{2,3} ", section, maxsplit=1)[0]
    lines = [line for line in section.splitlines() if line.startswith("| `") or re.match(r"\| [A-Za-z]", line)]
    return [[cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in lines]


def told_transitions(exposed: bool) -> dict[tuple[AttemptState, AttemptEvent], AttemptState]:
    """What the two tables of events say."""
    told = {}
    for name, _, *cells in (row for row in rows("### Events") if row[0] in AttemptEvent.__members__):
        if cells[exposed] == "ignored":
            continue
        states, reached = cells[exposed].split(" → ")
        for state in states.split(", "):
            told[AttemptState[state], AttemptEvent[name]] = AttemptState[reached]
    return told


@pytest.mark.parametrize("exposed", [False, True])
def test_events_lead_where_the_page_says(exposed: bool) -> None:
    """An author draws the agent's states from these tables."""
    real = {(state, event): to.state for (state, permit, event), to in TRANSITIONS.items() if permit is exposed}
    assert told_transitions(exposed) == real
    assert {row[0] for row in rows("### Events")} >= set(AttemptEvent.__members__)


def test_every_event_and_state_of_the_wire_stands_on_the_page() -> None:
    """What is missing here is missing in somebody's agent."""
    kinds = [name.removeprefix("EVENT_KIND_") for name in vehicle_pb2.EventKind.keys()[1:]]
    assert set(kinds) <= {row[0] for row in rows("### Events")}
    states = [name.removeprefix("ATTEMPT_STATE_") for name in attempt_pb2.AttemptState.keys()[1:]]
    assert sorted(row[0] for row in rows("### States") if row[0] != "state") == sorted(states)


def test_every_directive_stands_on_the_page() -> None:
    """A directive that nobody told of is ignored."""
    kinds = [field.name for field in vehicle_pb2.Directive.DESCRIPTOR.oneofs_by_name["kind"].fields]
    assert [row[0] for row in rows("### Directives") if row[0] != "directive"] == kinds


def test_every_code_of_verification_stands_on_the_page() -> None:
    """A vehicle reports its refusal by these words, in whatever language it is written."""
    ours = {
        code
        for path in (
            "signing/verify.py",
            "signing/match.py",
            "signing/tuf_client.py",
            "signing/roots.py",
            "signing/time_floor.py",
        )
        for code in re.findall(r"AttackCode\.([A-Z_]+)", text_of(path))
    }
    assert {row[0] for row in rows("## Metadata")} & set(AttackCode) == {AttackCode[name].value for name in ours}


def test_every_refusal_of_a_permit_stands_on_the_page() -> None:
    """A vehicle may ask again exactly where the page says so."""
    parts = {
        "orchestrator/service/permits.py": None,
        "orchestrator/engine/permits.py": None,
        "orchestrator/engine/windows.py": None,
        "orchestrator/store/memory/rollout.py": ("authorize", "_dead_man_refusal", "_permit_refusal"),
        "orchestrator/store/memory/places.py": ("no_slot", "no_quota"),
        "orchestrator/store/memory/shard.py": ("permit",),
    }
    used = {name for path, only in parts.items() for name in re.findall(r"RefusalReason\.([A-Z_]+)", part(path, only))}
    real = {RefusalReason[name] for name in used} | set(REFUSED_BY_STATUS.values())
    table = {row[0]: row[2] for row in rows("## Permits") if row[0] != "reason"}
    assert set(table) == real
    never = {name for name, again in table.items() if again == "no"}
    assert never == {"unknown_attempt", "attempt_over", "fenced", "rollout_over", "wrong_state"}


def part(path: str, functions: tuple[str, ...] | None) -> str:
    """The source of some functions of a file; all of it when none is named."""
    source = text_of(path)
    if functions is None:
        return source
    found = [
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef) and node.name in functions
    ]
    assert {node.name for node in found} == set(functions)
    return "\n".join(ast.get_source_segment(source, node) or "" for node in found)


ERRORS = {
    "orchestrator/rpc/errors.py",
    "orchestrator/rpc/interceptor.py",
    "orchestrator/rpc/identity.py",
    "orchestrator/rpc/vehicle_servicer.py",
    "orchestrator/rpc/convert/wire.py",
    "orchestrator/rpc/convert/polls.py",
    "orchestrator/rpc/convert/conditions.py",
    "orchestrator/service/call_rates.py",
    "orchestrator/service/director.py",
    "orchestrator/service/enrollment.py",
    "orchestrator/service/image_files.py",
    "orchestrator/service/last_seen.py",
    "orchestrator/service/manifests.py",
    "orchestrator/service/permits.py",
    "orchestrator/service/records.py",
    "orchestrator/service/vehicles.py",
}
"""Every module that answers at the enrolment and vehicle ports."""
OPERATORS_ONLY = {"NOT_AN_OPERATOR", "ROLE_TOO_LOW"}


def raised() -> dict[str, str]:
    """Every literal reason that those modules give, with its gRPC code by the class of the error."""
    codes = {kind.__name__: code_pb2.Code.Name(code) for kind, code in CODES}
    found = {"STORE_UNAVAILABLE": "UNAVAILABLE", "SIGNER_UNAVAILABLE": "UNAVAILABLE"}
    for path in ERRORS:
        for call in (node for node in ast.walk(ast.parse(text_of(path))) if isinstance(node, ast.Call)):
            reasons = [
                word.value.value
                for word in call.keywords
                if word.arg == "reason" and isinstance(word.value, ast.Constant)
            ]
            name = call.func.id if isinstance(call.func, ast.Name) else "OverloadedError"
            if reasons and reasons[0].isupper():
                found[reasons[0]] = "INTERNAL" if reasons[0] == "INTERNAL" else codes[name]
    refused = set(re.findall(r"AttackCode\.([A-Z_]+)", text_of("signing/manifest.py"))) | {"REPLAY"}
    return found | dict.fromkeys(refused, "INVALID_ARGUMENT")


def test_every_error_of_the_two_ports_stands_on_the_page() -> None:
    """What an agent cannot look up, it retries for ever."""
    table = {row[0]: row[1] for row in rows("## Errors") if len(row) == 4 and row[0].isupper()}
    real = {reason: code for reason, code in raised().items() if reason not in OPERATORS_ONLY}
    assert table == real


def test_limits_are_those_of_the_code() -> None:
    """A cap of yesterday is an agent that is refused tomorrow."""
    field = Settings.model_fields
    real = {
        "events in a CheckIn": str(EVENTS_MAX),
        "number of an event": str(NUMBER_MAX),
        "diagnoses in a CheckIn": str(DIAGNOSTICS_MAX),
        "outbox id": characters(OUTBOX_PATTERN),
        "failure code": characters(FAILURE_CODE_PATTERN),
        "trouble code": characters(CODE_PATTERN, first=1),
        "names in a FetchMetadata": str(NAMES_MAX),
        "manifest": size(MANIFEST_BYTES_MAX),
        "reports in a manifest": str(REPORTS_MAX),
        "attacksDetected": f"{manifest._ATTACK_MAX_CHARS} characters",
        "age of a report": f"{REPORT_AGE_MAX.days} d",
        "lead of a report": f"{REPORT_AHEAD_MAX.seconds // 3600} h",
        "certificate request": size(CSR_MAX_BYTES),
        "message to the vehicle port": size(field["vehicle_message_bytes_max"].default),
        "message to the enrolment port": size(servers.ENROLLMENT_BYTES_MAX),
        "metadata of one gRPC call": size(servers.METADATA_BYTES_MAX),
        "calls at a time on one connection": str(servers.VEHICLE_CALLS_MAX),
        f"calls of a vehicle in {WINDOW_MS // 60_000} min of fleet time": str(CALLS_MAX),
        f"words in {WORDS_WINDOW_MS // 60_000} min of fleet time: events, permits asked for, manifests": str(WORDS_MAX),
        "words of a manifest": f"1, and 1 for each {WORD_BYTES} bytes",
        "Director metadata file": size(DIRECTOR_CAPS.targets),
        "Image root and timestamp file": size(IMAGE_CAPS.root),
        "Image snapshot file": size(IMAGE_CAPS.snapshot),
        "Image targets file, delegated ones too": size(IMAGE_CAPS.targets),
        "metadata files in one answer": str(MAX_FILES),
        "new roots in one refresh": str(tuf_client._MAX_ROOT_ROTATIONS),
        "delegations followed": str(delegations.ROLES_MAX),
        "valid_for of a permit": f"{longest_permit_h()} h",
        "life of an enrolment token": f"{TOKEN_LIFE_MS // 86_400_000} d",
    }
    assert {row[0]: row[1] for row in rows("## Limits") if row[0] != "what"} == real
    assert MANIFEST_BYTES_MAX == manifest.MANIFEST_MAX_BYTES
    assert len({DIRECTOR_CAPS.root, DIRECTOR_CAPS.timestamp, DIRECTOR_CAPS.snapshot, DIRECTOR_CAPS.targets}) == 1
    assert IMAGE_CAPS.root == IMAGE_CAPS.timestamp


def longest_permit_h() -> int:
    """The longest permit that a plan may give, hours."""
    plan = "release: 1.1.0\noffline_permit: {}"
    hours = read_plan(plan.format("24h")).region_defaults.offline_permit_ms // 3_600_000
    with pytest.raises(PlanError):
        read_plan(plan.format("25h"))
    return hours


def size(count: int) -> str:
    """A number of bytes as the page writes it."""
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count >> 10} KiB"


def characters(pattern: re.Pattern[str], *, first: int = 0) -> str:
    """The longest text that a pattern of one class takes."""
    (longest,) = re.findall(r"[{]\d,(\d+)[}]", pattern.pattern)
    return f"{first + int(longest)} characters"


def test_the_manifest_of_the_page_is_a_good_one() -> None:
    """Whoever writes an encoder tries it on this one: were it wrong, every agent would be."""
    section = text_of(CONTRACT).split("\n## Manifests\n", 1)[1]
    document = re.findall(r"^```json\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)[0]
    keys = re.findall(r"of `(veh-1-\w+)` `([\w+/=]+)`", section)
    ecus = [InventoryEcu(serial, key, primary=serial.endswith("gw")) for serial, key in keys]
    now = datetime(2030, 1, 1, 12, 0, 30, tzinfo=UTC)
    good = verify_manifest(document.encode(), vehicle_id="veh-1", ecus=ecus, counter_above=1_893_499_199, now=now)
    assert [report.ecu_serial for report in good.reports] == ["veh-1-bcm", "veh-1-gw"]
    with pytest.raises(VerificationError):
        verify_manifest(
            document.replace("4096", "4097").encode(), vehicle_id="veh-1", ecus=ecus, counter_above=0, now=now
        )


def described_key_id(key: object) -> str:
    """The id of a public key, made as the section on manifests says."""
    if isinstance(key, Ed25519PublicKey):
        keytype, scheme, public = "ed25519", "ed25519", key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
    else:
        assert isinstance(key, EllipticCurvePublicKey)
        keytype, scheme = "ecdsa", "ecdsa-sha2-nistp256"
        public = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    text = f'{{"keytype":"{keytype}","keyval":{{"public":"{public}"}},"scheme":"{scheme}"}}'
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_key_id_of_a_signature_is_made_as_the_page_says() -> None:
    """A signature under another id counts as forged, and nothing tells its author why."""
    section = text_of(CONTRACT).split("\n## Manifests\n", 1)[1]
    texts = re.findall(r"of `veh-1-\w+` `([\w+/=]+)`", section)
    other = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ids = [described_key_id(load_der_public_key(base64.b64decode(text))) for text in texts]
    assert set(ids) == set(re.findall(r'"keyid": "(\w+)"', section))
    for text in [*texts, base64.b64encode(other).decode()]:
        assert public_key_from_base64(text).keyid == described_key_id(load_der_public_key(base64.b64decode(text)))
