"""The search for a target through delegations: in listed order, by path and by hardware id, in bounded work.

python-tuf's own search knows paths only; a supplier that is trusted with brakes could sign for gateways under a path
of its own. What a role's file says, and whether it is signed as its delegator asks, is the loader's to verify.
Source: Uptane 2.1.0, How to resolve delegations; How to check Targets metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tuf.api.metadata import DelegatedRole, Delegations, TargetFile, Targets

ROLES_MAX = 32
"""Most delegated roles that one search looks at."""
HARDWARE_IDS_FIELD = "hardwareIds"
"""Of a delegation; absent means any hardware."""

Loader = Callable[[str, str], Targets]
"""Gives the verified targets of a role, by its name and its delegator's."""


def find_target(path: str, hardware_ids: Sequence[str], load: Loader) -> TargetFile | None:
    """What the most trusted role says about `path`.

    Args:
        path: Target path.
        hardware_ids: What the image is for, all of it; none asks for a path whatever it is for.
        load: Verifies and gives a role's targets; its errors pass through.

    Returns:
        The entry, or None when no role that may speak for it lists it.
    """
    to_visit, visited = [("targets", "root")], set[str]()
    while to_visit and len(visited) <= ROLES_MAX:
        name, delegator = to_visit.pop()
        if name in visited:
            continue  # a loop, or a second way to a role that said nothing
        targets = load(name, delegator)
        if path in targets.targets:
            return targets.targets[path]
        visited.add(name)
        if targets.delegations is not None:
            children, ends = _children(targets.delegations, path, hardware_ids)
            if ends:
                to_visit = []
            to_visit += [(child, name) for child in reversed(children)]
    return None


def suppliers_in(delegations: Delegations | None) -> dict[str, DelegatedRole]:
    """The delegated roles that list images, in order of trust; a role without paths, as `attest`, has no list."""
    roles = (delegations.roles if delegations is not None else None) or {}
    return {name: role for name, role in roles.items() if role.paths}


def _children(delegations: Delegations, path: str, hardware_ids: Sequence[str]) -> tuple[list[str], bool]:
    """The roles to ask next, in listed order, and whether nobody else may be asked after them."""
    children = []
    for name, terminating in delegations.get_roles_for_target(path):
        role = delegations.roles.get(name) if delegations.roles is not None else None
        if role is not None and not _fits(role, hardware_ids):
            continue
        children.append(name)
        if terminating:
            return children, True
    return children, False


def _fits(role: DelegatedRole, hardware_ids: Sequence[str]) -> bool:
    allowed = role.unrecognized_fields.get(HARDWARE_IDS_FIELD, hardware_ids)
    return isinstance(allowed, list | tuple) and all(each in allowed for each in hardware_ids)
