"""Scopes that people name: whether a hardware variant of a region has vehicles in a rollout. Pure.

Leaves regions, which the rollout itself knows, to the engine.
"""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.model.fleet import Cell
from orchestrator.model.rollout import Rollout
from orchestrator.service.errors import InvalidInputError


def check_variant(rollout: Rollout, scope: str, cells: Iterable[Cell]) -> None:
    """Refuse a variant that no vehicle of the rollout has: a slip of the pen would stop nobody, and say nothing.

    Args:
        rollout: As it stands.
        scope: `region/hardware`.
        cells: Where the rollout has vehicles, reached or waiting.

    Raises:
        InvalidInputError: its region has no such variant.
    """
    region, _, hardware = scope.partition("/")
    known = sorted({cell.hardware for cell in cells if cell.region == region})
    if hardware and region in rollout.regions and hardware not in known:
        raise InvalidInputError(
            f"rollout {rollout.rollout_id} has no hardware variant `{hardware[:40]}` in region {region}",
            reason="SCOPE_UNKNOWN",
            remedy=f"there are {', '.join(known)}" if known else f"write {region} for the whole region",
        )
