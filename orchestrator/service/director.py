"""The Director's desk: decides what a vehicle's Director files say and when they are signed anew; the signer process
signs.

Files are signed on change, not on poll: a changed assignment raises all three, a quiet vehicle gets a fresh timestamp
once a day, which is one signature: the state keeps how the snapshot under it was signed. All files are made from
`DirectorState` alone, byte for byte the same each time, so nothing but the state is stored.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from orchestrator.model.fleet import Vehicle
from orchestrator.model.ids import EcuSerial, FleetTime, ReleaseVersion
from orchestrator.model.release import Release
from orchestrator.model.vehicle import DirectorState, SignedSnapshot
from signing.director import (
    AssignedImage,
    Assignment,
    DirectorVersions,
    Renewal,
    SnapshotPin,
    assignment_digest,
    next_version,
)

TARGETS_LIFE_MS = 7 * 24 * 3600 * 1000
TIMESTAMP_KEPT_MS = 20 * 3600 * 1000
"""Age of a timestamp, of the day that it lives, from which a vehicle that calls gets a fresh one: what is left is for
calls that fail."""
CACHED_VEHICLES_MAX = 4096
VERSIONS_AHEAD_MAX = 1_000_000
"""How far above the minutes since 2020 a vehicle's versions may be and still be ours."""

Files = Mapping[str, bytes]


class HeldVersions(Protocol):
    """Versions that a vehicle holds."""

    @property
    def root(self) -> int: ...  # noqa: D102 - named by the protocol's docstring
    @property
    def timestamp(self) -> int: ...  # noqa: D102
    @property
    def snapshot(self) -> int: ...  # noqa: D102
    @property
    def targets(self) -> int: ...  # noqa: D102


class Signer(Protocol):
    """The signer process, as this desk sees it."""

    async def director_files(self, assignment: Assignment, versions: DirectorVersions) -> dict[str, bytes]:
        """Sign; the same input gives the same bytes."""

    async def director_timestamp(self, renewal: Renewal) -> bytes:
        """Sign the timestamp alone, which has the bytes that it has among all three."""


def to_datetime(at: FleetTime) -> datetime:
    """Fleet time as metadata writes it: UTC, whole seconds."""
    return datetime.fromtimestamp(at // 1000, tz=UTC)


def assigned(state: DirectorState, release: ReleaseVersion, now: FleetTime) -> DirectorState:
    """The state that assigns `release` (empty: nothing) from now on; every version rises."""
    return DirectorState(
        version=next_version(state.version, to_datetime(now)),
        issued_at=now,
        timestamp_version=next_version(state.timestamp_version, to_datetime(now)),
        timestamp_issued_at=now,
        release=release,
    )


def renewed(state: DirectorState, now: FleetTime) -> DirectorState:
    """The state with targets past half their life, or a timestamp of yesterday, issued anew; `state` when neither is.

    Without a snapshot that was kept everything is: files under an old version are never signed twice in doubt.
    """
    if state.version == 0 or now - state.issued_at > TARGETS_LIFE_MS // 2:
        return assigned(state, state.release, now)
    if now - state.timestamp_issued_at <= TIMESTAMP_KEPT_MS:
        return state
    if state.snapshot is None:
        return assigned(state, state.release, now)
    return replace(
        state,
        timestamp_version=next_version(state.timestamp_version, to_datetime(now)),
        timestamp_issued_at=now,
    )


def caught_up(state: DirectorState, held: HeldVersions, raised: int, now: FleetTime) -> DirectorState:
    """The state with the versions that a vehicle holds, where those are higher: the next ones are above both.

    Only a store that was set back, as by a restored backup, has signed what it does not remember. What no clock
    explains is not believed: it would use up the numbers that are left.

    Args:
        state: as the store has it.
        held: as the vehicle says.
        raised: by how much files of `state` say more than it.
        now: fleet time.
    """
    ahead = max(0, held.targets - state.version - raised)
    timestamp_ahead = max(0, held.timestamp - state.timestamp_version - raised)
    if not ahead and not timestamp_ahead:
        return state
    if max(held.timestamp, held.targets) > next_version(0, to_datetime(now)) + VERSIONS_AHEAD_MAX:
        return state
    return replace(state, version=state.version + ahead, timestamp_version=state.timestamp_version + timestamp_ahead)


def assignment(vehicle: Vehicle, release: Release | None) -> Assignment:
    """What the Director's targets list for a vehicle: each image of the release with the ECUs it is for."""
    serials: dict[str, list[EcuSerial]] = {}
    for ecu in vehicle.ecus:
        serials.setdefault(ecu.hardware_id, []).append(ecu.serial)
    images = [
        AssignedImage(
            path=image.path,
            length=image.length_bytes,
            sha256=image.sha256,
            hardware_id=image.hardware_id,
            release_counter=image.release_counter,
            ecu_serials=tuple(serials[image.hardware_id]),
        )
        for image in (release.images if release else ())
        if image.hardware_id in serials
    ]
    return Assignment(vehicle_id=vehicle.vehicle_id, images=tuple(images))


class DirectorDesk:
    """Serves a vehicle's Director files.

    Args:
        signer: the signer process's client.
        metadata: folder with the Director's root files, `<n>.root.json`.
        looks_apart_s: least time between looks for a new root on behalf of vehicles that lack nothing. They hear of it
            so much later, as if they had polled a moment before.
    """

    def __init__(self, signer: Signer, metadata: Path, *, looks_apart_s: float = 0.0) -> None:
        self._signer = signer
        self._metadata = metadata
        self._looks_apart_s = looks_apart_s
        self._next_look_s = 0.0
        self._roots: dict[int, bytes] = {}
        self._newest = 0
        self._next_root = ""
        self._read_roots()
        self._files: OrderedDict[tuple[str, str], tuple[DirectorState, Files]] = OrderedDict()
        """By vehicle: what was made from an earlier state nobody asks for again."""

    def newest_root(self) -> int:
        """The version of the newest root, which says by which keys files are signed; read when it appears."""
        if os.path.exists(self._next_root):
            self._read_roots()
            self._files.clear()  # signed by keys that may be gone
        return self._newest

    def _recent_root(self) -> int:
        """The same as of a moment ago: each look at the disk lets other threads go first."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._next_look_s:
            return self._newest
        self._next_look_s = now_s + self._looks_apart_s
        return self.newest_root()

    def _read_roots(self) -> None:
        self._roots = read_roots(self._metadata)
        self._newest = max(self._roots, default=0)
        self._next_root = str(self._metadata / f"{self._newest + 1}.root.json")

    def versions(self, state: DirectorState) -> DirectorVersions:
        """What the files of `state` say under the newest root, as last looked for.

        Other keys sign other bytes, and a file that is signed anew has a higher version. So every root raises both by
        one, for all vehicles at once and without a word in the store; a later assignment still raises them further.
        """
        roots = self._raised()
        return DirectorVersions(
            version=state.version + roots,
            issued_at=to_datetime(state.issued_at),
            timestamp_version=state.timestamp_version + roots,
            timestamp_issued_at=to_datetime(state.timestamp_issued_at),
        )

    def _raised(self) -> int:
        """By how much roots raise the versions that a state says."""
        return max(0, self._newest - 1)

    def caught_up(self, state: DirectorState, held: HeldVersions, now: FleetTime) -> DirectorState:
        """The state with the versions that a vehicle holds of the newest root's keys, where they are higher."""
        if held.root != self._newest:
            return state  # that of a root which is not looked for yet is compared at its next poll
        remembered = caught_up(state, held, self._raised(), now)
        if remembered is not state and held.root != self.newest_root():
            return state  # behind a new root it forgets what it holds, and whoever had the old keys may have made it
        return remembered

    def roots_above(self, version: int) -> dict[str, bytes]:
        """Root files newer than the one a vehicle holds, by name, in order."""
        if version >= self._newest:
            return {}
        return {f"{number}.root.json": self._roots[number] for number in sorted(self._roots) if number > version}

    async def pinned(
        self, vehicle: Vehicle, state: DirectorState, release: Release | None, now: FleetTime
    ) -> DirectorState:
        """A state that was just renewed, with the snapshot that its later timestamps will stand on.

        Where the snapshot that is kept no longer stands, all files are signed before the state is committed: at worst
        for nobody. Other control units or another form of the files are other content, and so take another version.

        Raises:
            signing.errors.SignerUnavailableError: the signer process did not answer.
        """
        digest = assignment_digest(assignment(vehicle, release))
        if state.snapshot is not None and state.snapshot.assignment != digest:
            state = assigned(state, state.release, now)
        self.newest_root()
        if state.snapshot is not None and state.snapshot.version == state.version + self._raised():
            return state
        files = await self.files(vehicle, state, release)
        name, content = next(file for file in files.items() if file[0].endswith(".snapshot.json"))
        return replace(
            state,
            snapshot=SignedSnapshot(
                version=int(name.partition(".")[0]),
                length_bytes=len(content),
                sha256=hashlib.sha256(content).hexdigest(),
                assignment=digest,
            ),
        )

    async def newer_than(
        self, held: HeldVersions, vehicle: Vehicle, state: DirectorState, release: Release | None
    ) -> Files:
        """What a vehicle lacks: newer roots, and the other files if they are newer, or signed by another root's keys.

        What it holds may be the higher version: whoever stole the old keys may have driven it up. Behind a new root
        the vehicle forgets it, and needs ours.

        Raises:
            signing.errors.SignerUnavailableError: the signer process did not answer.
        """
        files: Files = {}
        root = self._recent_root()
        version, timestamp_version = state.version + self._raised(), state.timestamp_version + self._raised()
        if held.timestamp < timestamp_version or held.root < root:
            holds_the_rest = held.root >= root and held.snapshot == held.targets == version
            if state.snapshot is not None and holds_the_rest and state.snapshot.version == version:
                files = await self._timestamp(vehicle, state, release, state.snapshot)
            else:
                files = await self.files(vehicle, state, release)
        return {**self.roots_above(held.root), **files}  # roots last: files may have waited for a new one

    async def files(self, vehicle: Vehicle, state: DirectorState, release: Release | None) -> Files:
        """Targets, snapshot and timestamp of `state`, by name, signed by the keys of the newest root.

        Raises:
            signing.errors.SignerUnavailableError: the signer process did not answer.
        """

        async def sign(versions: DirectorVersions) -> Files:
            return await self._signer.director_files(assignment(vehicle, release), versions)

        return await self._remembered("all", sign, vehicle, state, release)

    async def _timestamp(
        self, vehicle: Vehicle, state: DirectorState, release: Release | None, over: SignedSnapshot
    ) -> Files:
        """The timestamp alone, over a snapshot that stands; all files when a root came in between."""
        pin = SnapshotPin(over.version, over.length_bytes, over.sha256)

        async def sign(versions: DirectorVersions) -> Files:
            renewal = Renewal(vehicle.vehicle_id, versions.timestamp_version, versions.timestamp_issued_at, pin)
            return {"timestamp.json": await self._signer.director_timestamp(renewal)}

        return await self._remembered("timestamp", sign, vehicle, state, release)

    async def _remembered(
        self,
        what: str,
        sign: Callable[[DirectorVersions], Awaitable[Files]],
        vehicle: Vehicle,
        state: DirectorState,
        release: Release | None,
    ) -> Files:
        root = self.newest_root()
        key, made_from = (what, vehicle.vehicle_id), replace(state, snapshot=None)
        if key in self._files and self._files[key][0] == made_from:
            self._files.move_to_end(key)
            return self._files[key][1]
        files = await sign(self.versions(state))
        if self.newest_root() != root:
            # The signer may have signed before or after the rotation: ask again, it is cheap and rare.
            return await self.files(vehicle, state, release)
        self._files[key] = (made_from, files)
        self._files.move_to_end(key)
        while len(self._files) > CACHED_VEHICLES_MAX:
            self._files.popitem(last=False)
        return files


def read_roots(metadata: Path) -> dict[int, bytes]:
    """Every `<n>.root.json` of a folder, by version."""
    return {int(path.name.split(".")[0]): path.read_bytes() for path in metadata.glob("*.root.json")}
