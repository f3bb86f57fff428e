"""What a supplier may list, judged before it is published as vehicles will judge it: pure, over all lists at once.

Vehicles refuse at the match what a supplier lists outside of its paths or hardware; a person should hear of it earlier,
and with the reason. The search itself is `delegations`', the same for both.
"""

from __future__ import annotations

from collections.abc import Mapping

from tuf.api.metadata import DelegatedRole, TargetFile, Targets

from signing.delegations import HARDWARE_IDS_FIELD, find_target
from signing.deltas import is_delta
from signing.errors import ImageRefusedError, VerificationError
from signing.match import ShallMatch, read_shall_match
from signing.names import NAME_PATTERN, SHA256_PATTERN, target_path_fault
from signing.publication import highest_counters


def allow(role: DelegatedRole, entry: TargetFile) -> ShallMatch:
    """Refuse an image that is outside of what a role may speak for.

    Raises:
        ImageRefusedError: Its path, hardware ids, digest or name.
    """
    match = _read(entry)
    if not role.is_delegated_path(entry.path):
        allowed = ", ".join(role.paths or ()) or "none"
        raise ImageRefusedError(f"{entry.path!r} is outside the paths of {role.name}, which are {allowed}")
    allowed_ids = role.unrecognized_fields.get(HARDWARE_IDS_FIELD, match.hardware_ids)
    for hardware_id in match.hardware_ids:
        if hardware_id not in allowed_ids:
            raise ImageRefusedError(
                f"{entry.path!r} is for {hardware_id}; {role.name} may speak for {', '.join(allowed_ids)} only"
            )
    return match


def check_supply(
    role: DelegatedRole, *, before: Mapping[str, Targets], after: Mapping[str, Targets]
) -> tuple[TargetFile, ...]:
    """Judge what a supplier's next list has that the one before had not, or has otherwise.

    Args:
        role: The supplier, as it is trusted once this is published.
        before: All lists of images that are published, by role.
        after: The same once this is published.

    Returns:
        The images that are new.

    Raises:
        ImageRefusedError: One that vehicles would refuse or never find, other bytes under a path that was taken, or a
            lower release counter.
    """
    old = before[role.name].targets if role.name in before else {}
    fresh = tuple(entry for path, entry in after[role.name].targets.items() if old.get(path) != entry)
    highest = highest_counters({path: entry for each in before.values() for path, entry in each.targets.items()})
    for entry in fresh:
        match = allow(role, entry)
        if entry.path in old:
            raise ImageRefusedError(f"{entry.path!r} was published with other bytes or fields; choose another path")
        if find_target(entry.path, match.hardware_ids, lambda name, _: after[name]) != entry:
            raise ImageRefusedError(
                f"no vehicle would find {entry.path!r} with {role.name}: a role that is asked before it lists that "
                "path, or ends the search"
            )
        for hardware_id in match.hardware_ids:
            if match.release_counter < highest.get(hardware_id, 0):
                raise ImageRefusedError(
                    f"{entry.path!r}: release counter {match.release_counter} is lower than {highest[hardware_id]}, "
                    f"which {hardware_id} has already"
                )
    return fresh


def _read(entry: TargetFile) -> ShallMatch:
    if fault := target_path_fault(entry.path):
        raise ImageRefusedError(f"{entry.path[:80]!r} is no image name: {fault}")
    if is_delta(entry.path):
        raise ImageRefusedError(f"{entry.path!r}: names below deltas/ are kept for deltas, which no supplier lists")
    if set(entry.hashes) != {"sha256"} or not SHA256_PATTERN.fullmatch(entry.hashes["sha256"]):
        raise ImageRefusedError(f"{entry.path!r} has to have a SHA-256 and no other digest")
    try:
        match = read_shall_match(entry.path, entry)
    except VerificationError as exc:
        raise ImageRefusedError(str(exc)) from exc
    if any(not NAME_PATTERN.fullmatch(hardware_id) for hardware_id in match.hardware_ids):
        raise ImageRefusedError(f"{entry.path!r}: {match.hardware_ids} are no hardware ids")
    return match
