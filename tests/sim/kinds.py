"""Which kinds of things happened in a run: a storm that never blew proves nothing.

Owns the list of kinds, and what counts as one. Told of operations on the store by the witness, who judges them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from orchestrator.model.decision import Refusal, RefusalReason
from orchestrator.model.rollout import Rollout, RolloutStatus
from orchestrator.store.base import ChangeOutcome, ImportOutcome, Permitted

if TYPE_CHECKING:
    from tests.sim.witness import Witness

KINDS = (
    "draft started",
    "superseded in flight",
    "signal posted",
    "signal taken back",
    "signal overdue",
    "part paused",
    "part resumed",
    "bandwidth spent",
    "granted beside a rival",
    "stood aside",
    "permitted after it stood aside",
    "found its wave full after it stood aside",
    "offline permit",
    "moved",
    "moved in flight",
    "removed",
    "brought back",
    "quarantined",
    "quarantined in flight",
    "late message",
    "late by more than a week",
)
"""Every one has to happen in some of the seeds of `make test`."""

_BY_DECISION: Mapping[str, str] = MappingProxyType(
    {
        "rollout_started": "draft started",
        "signal_posted": "signal posted",
        "signal_cleared": "signal taken back",
        "part_paused": "part paused",
        "part_resumed": "part resumed",
    }
)


def kinds(witness: Witness, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], answer: Any) -> Iterator[str]:
    """What kinds of things an operation is that was just done."""
    look = _LOOKS.get(name)
    if look is not None:
        yield from look(witness, args, kwargs, answer)


def late_kinds(late_ms: int) -> Iterator[str]:
    """What kinds of things a message is that nobody waited for any more."""
    yield "late message"
    if late_ms > 7 * 24 * 3_600_000:
        yield "late by more than a week"


def _transition(witness: Witness, args: tuple[Any, ...], kwargs: Mapping[str, Any], answer: Any) -> Iterator[str]:
    after: Rollout = args[0]
    kind = kwargs["decision"].kind
    if not answer:
        return
    if kind in _BY_DECISION:
        yield _BY_DECISION[kind]
    if any(signal.overdue(after.updated_at) for signal in after.signals):
        yield "signal overdue"
    lives = {witness.attempts[attempt_id].rollout_id for attempt_id in witness.live.values()}
    if kind == "rollout_superseded" and after.rollout_id in lives:
        yield "superseded in flight"


def _reserve(witness: Witness, args: tuple[Any, ...], _: object, answer: Any) -> Iterator[str]:
    if isinstance(answer, Refusal):
        if answer.reason is RefusalReason.BANDWIDTH_SPENT:
            yield "bandwidth spent"
        return
    ours = witness.rollouts[args[0]].rollout
    rivals = [watched.rollout for watched in witness.rollouts.values() if watched.rollout is not ours]
    if any(rival.status is RolloutStatus.RUNNING and rival.plan.priority != ours.plan.priority for rival in rivals):
        yield "granted beside a rival"


def _authorize(witness: Witness, args: tuple[Any, ...], _: object, answer: Any) -> Iterator[str]:
    if isinstance(answer, Permitted) and answer.offline_ms:
        yield "offline permit"
    if isinstance(answer, Refusal) and answer.reason is RefusalReason.WATCHED:
        yield "stood aside"
    elif args[1] in witness.rollouts[args[0]].aside:
        if isinstance(answer, Permitted):
            yield "permitted after it stood aside"
        elif answer.reason is RefusalReason.QUOTA_SPENT:
            yield "found its wave full after it stood aside"


def _change_vehicles(witness: Witness, args: tuple[Any, ...], _: object, answer: ChangeOutcome) -> Iterator[str]:
    if answer.changed:
        yield "moved"
        if args[0][0].before.vehicle_id in witness.live:
            yield "moved in flight"


def _remove_vehicle(_: object, __: object, ___: object, answer: Any) -> Iterator[str]:
    if answer is True:
        yield "removed"


def _import_vehicles(_: object, __: object, ___: object, answer: ImportOutcome) -> Iterator[str]:
    if answer.added:
        yield "brought back"


def _exclude(witness: Witness, args: tuple[Any, ...], _: object, answer: Any) -> Iterator[str]:
    if answer:
        yield "quarantined"
        if args[0] in witness.live:
            yield "quarantined in flight"


_LOOKS: Mapping[str, Callable[..., Iterator[str]]] = MappingProxyType(
    {
        "transition": _transition,
        "reserve": _reserve,
        "authorize": _authorize,
        "change_vehicles": _change_vehicles,
        "remove_vehicle": _remove_vehicle,
        "import_vehicles": _import_vehicles,
        "exclude": _exclude,
    }
)
