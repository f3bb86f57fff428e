"""Vehicles page by page: all of them, or those of some profiles, which nobody else's records are read for.

Who has a profile stands beside how many have it. Where both do not agree, or a vehicle is named that has the profile no
longer, every vehicle of the shard is read instead: what is found never hangs on what is noted, only how fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.model.fleet import Profile
from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.vehicle import VehicleRecord
from orchestrator.store.redis import codec
from orchestrator.store.redis.calls import Calls, pairs
from orchestrator.store.redis.keys import shard_tag

STEP = 250
"""Vehicles of one step: a step holds up the server for some milliseconds."""

Wanted = Callable[[Profile], bool]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a listing stands."""

    shard: int = 0
    cursor: int = 0
    """Of the server, in the vehicles of a profile or of the shard; 0: at their beginning."""
    profile: str = ""
    """Digest of the profile whose vehicles are read; empty: none yet, or all vehicles are."""

    @property
    def token(self) -> str:
        return f"{self.shard}.{self.cursor}" + (f".{self.profile}" if self.profile else "")


class Listing:
    """Reads vehicles.

    Args:
        calls: carries the calls.
        shards: how many there are.
    """

    def __init__(self, calls: Calls, shards: int) -> None:
        self._calls = calls
        self._shards = shards

    async def page(self, token: str, size: int, wanted: Wanted | None) -> tuple[Sequence[VehicleRecord], str]:
        """Some vehicles and the next token, as `base.VehicleStore.vehicles` has it.

        Raises:
            ValueError: the token is none of ours.
        """
        place = _read(token, self._shards)
        found: list[VehicleRecord] = []
        looked = 0
        while looked < size and place.shard < self._shards:
            if wanted is None or (place.cursor and not place.profile):
                place, more, records = await self._scan(place, size - looked)
            else:
                place, more, records = await self._of_profiles(place, size - looked, wanted)
            looked += more
            found += [each for each in records if wanted is None or wanted(_profile(each))]
        return found, place.token if place.shard < self._shards else ""

    async def _scan(self, place: _Place, size: int) -> tuple[_Place, int, Sequence[VehicleRecord]]:
        """Some vehicles of a shard, whatever their profile; how many were looked at, with those that were removed."""
        cursor, looked, records = await self._look(place.shard, b"", place.cursor, size)
        return replace(place, cursor=cursor) if cursor else _Place(place.shard + 1), looked, records

    async def _of_profiles(
        self, place: _Place, size: int, wanted: Wanted
    ) -> tuple[_Place, int, Sequence[VehicleRecord]]:
        """Some vehicles of the profiles of a shard that are wanted."""
        reply = await self._calls.function("look_profiles", shard_tag(place.shard))
        chosen = sorted(
            (_digest(packed), packed, agrees == b"1")
            for packed, agrees in pairs(reply[1:])
            if wanted(codec.decode_profile(packed))
        )
        if not all(agrees for _, _, agrees in chosen):
            return await self._scan(_Place(place.shard), size)
        looked, found = 0, list[VehicleRecord]()
        for digest, packed, _ in chosen:
            if digest < place.profile:
                continue
            cursor = place.cursor if digest == place.profile else 0
            while True:
                if looked >= size:
                    return _Place(place.shard, cursor, digest), looked, found
                cursor, more, records = await self._look(place.shard, packed, cursor, size - looked)
                profile = codec.decode_profile(packed)
                if len(records) < more or any(_profile(each) != profile for each in records):
                    return await self._scan(_Place(place.shard), size)
                looked += more
                found += records
                if not cursor:
                    break
        return _Place(place.shard + 1), looked, found

    async def _look(
        self, shard: int, profile: bytes, cursor: int, size: int
    ) -> tuple[int, int, Sequence[VehicleRecord]]:
        """The following cursor, how many were looked at, and those of them that are in the inventory."""
        reply: list[Any] = await self._calls.function(
            "look_vehicles", shard_tag(shard), profile, cursor, min(size, STEP)
        )
        return int(reply[1]), int(reply[2]), [codec.decode_record(*parts) for parts in reply[3:]]


def _profile(record: VehicleRecord) -> Profile:
    return record.vehicle.profile(ReleaseVersion(record.installed))


def _digest(profile: bytes) -> str:
    return hashlib.blake2b(profile, digest_size=8).hexdigest()


def _read(token: str, shards: int) -> _Place:
    """The place that a token names; the first for an empty one.

    Raises:
        ValueError: it is none of ours.
    """
    if not token:
        return _Place()
    shard, dot, rest = token.partition(".")
    cursor, _, profile = rest.partition(".")
    numbers = (shard + cursor).isascii() and shard.isdigit() and cursor.isdigit()
    names = not profile or (len(profile) == 16 and set(profile) <= set("0123456789abcdef"))
    if not dot or not numbers or not names or token != f"{shard}.{cursor}" + (f".{profile}" if profile else ""):
        raise ValueError(f"not a page token: {token!r}")
    if int(shard) >= shards:
        raise ValueError(f"not a page token: {token!r}")
    return _Place(int(shard), int(cursor), profile)
