"""Records on their way in and out: msgpack arrays by position for what is hot, JSON for rollouts and releases.

Every record starts with the schema version. The field tuples below are the only statement of positions: the Lua
functions get them as index tables (`functions.py`). None is stored as `false`: Lua has no nil in arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack  # type: ignore[import-untyped]
from pydantic import TypeAdapter

from orchestrator.model.attempt import Attempt, AttemptState, Case, Try, VehicleEvent
from orchestrator.model.fleet import Cell, Habit, Profile
from orchestrator.model.ids import AttemptId, FleetTime, ReleaseVersion, RolloutId, VehicleId
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.vehicle import DirectorState, Exclusion, Gaps, SignedSnapshot, VehicleRecord
from orchestrator.store.base import JournalEntry, Json, StoreRefusedError
from orchestrator.store.redis.contact import decode_seen
from orchestrator.store.redis.ended import LIVE_ORDER, ended_attempt, ended_tries
from orchestrator.store.redis.inventory import decode_vehicle, read_shape
from orchestrator.store.redis.packing import SCHEMA, SCHEMA_ENDED, pack, unpack

HOT = (
    "schema",
    "enrolled",
    "installed",
    "manifest_sha256",
    "manifest_counter",
    "outbox_id",
    "acknowledged_number",
    "director",  # version, issued_at, timestamp_version, timestamp_issued_at, release, signed snapshot or false
    "tries",  # array of (rollout id, number, state, state_at, exposed, failure code); none of a latest one in `ended`
    "attempt_id",  # latest attempt, "" when none
    "exclusions",  # array of (scope, actor, reason, at), by scope
    "removed",  # whether it is out of the inventory; its inventory record stays for who reads old attempts
    "forgiven_at",  # when its quarantine was last lifted, 0: never
    "ended",  # array of ended attempts (ended.ENDED), in no order; the field is only there with the first of them
)
ATTEMPT = (
    "schema",
    "attempt_id",
    "rollout_id",
    "vehicle_id",
    "number",
    "release",
    "region",
    "hardware",
    "cohort",
    "epoch",
    "state",
    "state_at",
    "deadline_at",
    "granted_at",
    "permitted_at",
    "failure_code",
    "deadlines",  # by LIVE_ORDER, false where the plan sets none
    "checkpoints",
    "aged",
    "silent",
    "habit",
    "habit_ages",
    "habit_aged",
    "habit_silent",
    "grant_aged",
    "grant_silent",
    "diagnosed",
    "safety",
    "offline",  # milliseconds, 0 without an offline permit
    "paired",
)
CASE = (
    "schema",
    "attempt_id",
    "rollout_id",
    "vehicle_id",
    "region",
    "hardware",
    "cohort",
    "cause",
    "detail",
    "opened_at",
    "settled_at",
    "attempt_state",
    "closed_by",
    "close_reason",
)
UNIT = "\x1f"
"""Separates the fields of a profile key."""
GROUP = "\x1e"
"""Separates the tags within a profile key."""

_ROLLOUT: TypeAdapter[Rollout] = TypeAdapter(Rollout)
_RELEASE: TypeAdapter[Release] = TypeAdapter(Release)


def director_fields(director: DirectorState) -> list[Any]:
    """A Director state by position."""
    snapshot = director.snapshot
    return [
        director.version,
        director.issued_at,
        director.timestamp_version,
        director.timestamp_issued_at,
        director.release,
        [snapshot.version, snapshot.length_bytes, snapshot.sha256, snapshot.assignment] if snapshot else False,
    ]


def decode_record(
    vehicle_id: bytes,
    shape: bytes,
    inventory: bytes,
    hot: bytes,
    attempt: bytes,
    seen: bytes,
    frames: Sequence[bytes],
) -> VehicleRecord:
    """A vehicle's record from its id and its six parts; attempt and contact are empty where there is none, and the
    attempt where the hot record has it.
    """
    _, enrolled, installed, sha256, counter, outbox_id, acknowledged, director, *more = unpack_hot(hot)
    tries, latest_id, exclusions, _, forgiven_at, packed = more
    # That of a new vehicle, and what was written before snapshots were kept, ends with the release.
    version, issued_at, timestamp_version, timestamp_issued_at, release, snapshot = (*director, False)[:6]
    contact, gaps = decode_seen(seen) if seen else (None, Gaps())
    vehicle = decode_vehicle(vehicle_id, shape, inventory)
    known = decode_frames(frames) if frames else {}
    tried = ended_tries(packed, known)
    for rollout_id, number, state, state_at, exposed, code in tries:
        tried[RolloutId(rollout_id)] = Try(
            number=number, state=AttemptState(state), state_at=FleetTime(state_at), exposed=exposed, failure_code=code
        )
    return VehicleRecord(
        vehicle=vehicle,
        enrolled=enrolled,
        installed=ReleaseVersion(installed),
        manifest_sha256=sha256,
        manifest_counter=counter,
        outbox_id=outbox_id,
        acknowledged_number=acknowledged,
        director=DirectorState(
            version=version,
            issued_at=FleetTime(issued_at),
            timestamp_version=timestamp_version,
            timestamp_issued_at=FleetTime(timestamp_issued_at),
            release=ReleaseVersion(release),
            snapshot=SignedSnapshot(*snapshot) if snapshot else None,
        ),
        tries=tried,
        attempt=decode_attempt(attempt) if attempt else ended_attempt(vehicle.vehicle_id, latest_id, packed, known),
        last_seen_at=contact.at if contact else None,
        conditions=contact.conditions if contact else None,
        diagnostics=contact.diagnostics if contact else (),
        exclusions=tuple(
            [
                Exclusion(scope=scope, actor=actor, reason=reason, at=FleetTime(at))
                for scope, actor, reason, at in exclusions
            ]
        ),
        gaps=gaps,
        forgiven_at=FleetTime(forgiven_at),
    )


def unpack_hot(data: bytes) -> list[Any]:
    """The values of a hot record; no ended attempts where the field is not there yet.

    Raises:
        StoreRefusedError: it is of another schema.
    """
    values: list[Any] = msgpack.unpackb(data)
    if values[0] == SCHEMA_ENDED and len(values) == len(HOT):
        return values
    return [*unpack(data, HOT[:-1]), []]


def decode_frames(frames: Sequence[bytes]) -> dict[int, bytes]:
    """Packed frames by number, of a reply where one follows the other."""
    return {int(number): frame for number, frame in zip(frames[::2], frames[1::2], strict=True)}


def encode_attempt(attempt: Attempt) -> bytes:
    """Record of an attempt."""
    return pack(
        [
            SCHEMA,
            attempt.attempt_id,
            attempt.rollout_id,
            attempt.vehicle_id,
            attempt.number,
            attempt.release,
            attempt.cell.region,
            attempt.cell.hardware,
            attempt.cell.cohort,
            attempt.epoch,
            attempt.state.value,
            attempt.state_at,
            False if attempt.deadline_at is None else attempt.deadline_at,
            attempt.granted_at,
            False if attempt.permitted_at is None else attempt.permitted_at,
            attempt.failure_code,
            [attempt.deadlines_ms.get(state, False) for state in LIVE_ORDER],
            attempt.checkpoints_ms,
            attempt.aged,
            attempt.silent,
            attempt.habit.value,
            attempt.habit_ages_ms,
            attempt.habit_aged,
            attempt.habit_silent,
            attempt.grant_aged,
            attempt.grant_silent,
            attempt.diagnosed,
            attempt.safety,
            attempt.offline_ms,
            attempt.paired,
        ]
    )


def decode_attempt(data: bytes) -> Attempt:
    """An attempt from its record."""
    value = dict(zip(ATTEMPT, unpack(data, ATTEMPT), strict=True))
    return Attempt(
        attempt_id=AttemptId(value["attempt_id"]),
        rollout_id=RolloutId(value["rollout_id"]),
        vehicle_id=VehicleId(value["vehicle_id"]),
        number=value["number"],
        release=ReleaseVersion(value["release"]),
        cell=_cell(value),
        epoch=value["epoch"],
        state=AttemptState(value["state"]),
        state_at=FleetTime(value["state_at"]),
        deadline_at=_time(value["deadline_at"]),
        granted_at=FleetTime(value["granted_at"]),
        permitted_at=_time(value["permitted_at"]),
        failure_code=value["failure_code"],
        deadlines_ms={
            state: length for state, length in zip(LIVE_ORDER, value["deadlines"], strict=True) if length is not False
        },
        checkpoints_ms=tuple(value["checkpoints"]),
        aged=tuple(value["aged"]),
        silent=tuple(value["silent"]),
        habit=Habit(value["habit"]),
        habit_ages_ms=tuple(value["habit_ages"]),
        habit_aged=tuple(value["habit_aged"]),
        habit_silent=tuple(value["habit_silent"]),
        grant_aged=value["grant_aged"],
        grant_silent=value["grant_silent"],
        diagnosed=value["diagnosed"],
        safety=value["safety"],
        offline_ms=value["offline"],
        paired=value["paired"],
    )


def decode_case(data: bytes) -> Case:
    """A case from its record."""
    value = dict(zip(CASE, unpack(data, CASE), strict=True))
    return Case(
        attempt_id=AttemptId(value["attempt_id"]),
        rollout_id=RolloutId(value["rollout_id"]),
        vehicle_id=VehicleId(value["vehicle_id"]),
        cell=_cell(value),
        cause=value["cause"],
        detail=value["detail"],
        opened_at=FleetTime(value["opened_at"]),
        settled_at=_time(value["settled_at"]),
        attempt_state=AttemptState(value["attempt_state"]),
        closed_by=value["closed_by"],
        close_reason=value["close_reason"],
    )


def _cell(value: Mapping[str, Any]) -> Cell:
    return Cell(region=value["region"], hardware=value["hardware"], cohort=value["cohort"])


def _time(value: int | bool) -> FleetTime | None:
    return None if value is False else FleetTime(value)


def encode_events(events: Sequence[VehicleEvent]) -> bytes:
    """Events out of an outbox, as `apply` takes them."""
    return pack([[event.number, event.attempt_id, event.event.value, event.failure_code] for event in events])


def profile_key(shape: bytes, installed: str) -> str:
    """The key under which a vehicle is counted, by what it has in common and what it runs."""
    model, hardware, region, cohort, tags, zone, _ = read_shape(shape)
    return UNIT.join((model, hardware, region, cohort, GROUP.join(tags), installed, zone))


def decode_profile(data: bytes) -> Profile:
    """A profile from its key: model, hardware, region, cohort, tags, installed release, zone."""
    model, hardware, region, cohort, tags, installed, zone = data.decode().split(UNIT)
    return Profile(
        model=model,
        hardware=hardware,
        region=region,
        cohort=cohort,
        tags=tuple(tags.split(GROUP)) if tags else (),
        installed=ReleaseVersion(installed),
        zone=zone,
    )


def encode_map(values: Mapping[str, Json]) -> bytes:
    """One msgpack map, for example the data of a journal entry."""
    packed: bytes = msgpack.packb(dict(values))
    return packed


def decode_entry(stream: str, entry_id: bytes, fields: Mapping[bytes, bytes]) -> JournalEntry:
    """A journal entry as it stands in a stream."""
    return JournalEntry(
        stream=stream,
        entry_id=entry_id.decode(),
        kind=fields[b"k"].decode(),
        at=FleetTime(int(fields[b"t"])),
        data=msgpack.unpackb(fields[b"d"]),
        blob=fields.get(b"b", b""),
    )


def encode_rollout(rollout: Rollout) -> str:
    """A rollout as JSON; the salt in hex."""
    value = _ROLLOUT.dump_python(rollout, mode="json", exclude={"salt"})  # the salt is no text
    return json.dumps({"schema": SCHEMA, "rollout": {**value, "salt": rollout.salt.hex()}})


def decode_rollout(data: bytes) -> Rollout:
    """A rollout from its JSON."""
    value = _document(data, "rollout")
    return _ROLLOUT.validate_python({**value, "salt": bytes.fromhex(value["salt"])})


def encode_release(release: Release) -> str:
    """A release as JSON."""
    return json.dumps({"schema": SCHEMA, "release": _RELEASE.dump_python(release)})


def decode_release(data: bytes) -> Release:
    """A release from its JSON."""
    return _RELEASE.validate_python(_document(data, "release"))


def _document(data: bytes, name: str) -> dict[str, Any]:
    value = json.loads(data)
    if value["schema"] != SCHEMA:
        raise StoreRefusedError(
            f"a {name} has schema {value['schema']}, this build reads {SCHEMA}: start the build that wrote it"
        )
    document: dict[str, Any] = value[name]
    return document
