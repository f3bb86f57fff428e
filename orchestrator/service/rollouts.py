"""Use cases of rollouts: preview, start, look, pause, resume, abort, approve, revert, signals. Each change is a step of
the engine, committed by compare-and-set.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

from orchestrator.clock import FleetClock, MachineClock
from orchestrator.engine.pins import release_sha256
from orchestrator.engine.plan.file import PlanError, effective_plan, read_plan
from orchestrator.engine.preview import Preview, preview
from orchestrator.engine.progress import (
    AbortRequested,
    ApproveRequested,
    Illegal,
    PauseRequested,
    ResumeRequested,
    SignalCleared,
    SignalPosted,
    StartRequested,
    start,
    step,
)
from orchestrator.engine.reach import regions_of, waiting, with_limits
from orchestrator.model.ids import ROLLOUT_ID_PATTERN, FleetTime, ReleaseVersion, RolloutId
from orchestrator.model.plan import Plan
from orchestrator.model.release import Release
from orchestrator.model.rollout import Rollout
from orchestrator.model.tally import total
from orchestrator.service.decisions import CAS_TRIES, decision_entry
from orchestrator.service.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    StateError,
    Violation,
)
from orchestrator.service.reverts import check_proposal, check_resume, check_revert, revert_plan, way_back
from orchestrator.service.rollout_views import RolloutView, view_of
from orchestrator.service.scopes import check_variant
from orchestrator.service.successors import check_supersedes, end_superseded
from orchestrator.service.vouching import NOTHING_ASKED, REMEDY, Vouching, narrowed
from orchestrator.store.base import Json, Store

REQUESTS_KEPT = 32
REQUEST_ID_MAX = 64
SALT_BYTES = 16
WATCH_S = 0.5

Request = (
    StartRequested | PauseRequested | ResumeRequested | AbortRequested | ApproveRequested | SignalPosted | SignalCleared
)


class RolloutDesk:
    """Serves operators in what concerns rollouts.

    Args:
        store: committed to.
        clock: fleet time.
        machine: for waiting between looks.
        vouching: what is signed about releases.
        random_bytes: that many bytes nobody can foresee; a simulation draws them from its seed.
    """

    def __init__(
        self,
        *,
        store: Store,
        clock: FleetClock,
        machine: MachineClock,
        vouching: Vouching = NOTHING_ASKED,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._store = store
        self._clock = clock
        self._machine = machine
        self._vouching = vouching
        self._random_bytes = random_bytes

    async def preview(self, plan_text: str) -> tuple[Plan, Preview, str]:
        """What a plan would do: the plan, the forecast, and the plan with every default.

        Raises:
            InvalidInputError: the plan is faulty; each fault with line and column.
        """
        plan = await self._read(plan_text)
        profiles, releases = await self._store.profiles(), await self._store.releases()
        plan = with_limits(plan, profiles, releases)
        release = next((release for release in releases if release.version == plan.release), None)
        others = await self._store.rollouts()
        found = preview(plan, profiles, release, self._now(), others=others, releases=releases)
        return plan, found, effective_plan(plan)

    async def _read(self, plan_text: str) -> Plan:
        try:
            plan = read_plan(plan_text)
        except PlanError as error:
            raise InvalidInputError(
                f"the plan has {len(error.faults)} fault{'s' if len(error.faults) != 1 else ''}; nothing was started",
                reason="PLAN_INVALID",
                remedy="mend the lines named; docs/plan-file.md describes every field",
                violations=[
                    Violation(f"{fault.line}:{fault.column}", f"{fault.message} ({fault.remedy})")
                    for fault in error.faults
                ],
            ) from error
        release = next((each for each in await self._store.releases() if each.version == plan.release), None)
        if release is None:
            line, column = release_position(plan_text)
            raise InvalidInputError(
                f"release {plan.release} is not registered; nothing was started",
                reason="RELEASE_UNKNOWN",
                remedy="publish it with `outrider release publish`",
                violations=[Violation(f"{line}:{column}", f"release {plan.release} is not registered")],
            )
        self._vouching.refresh()
        if fault := self._vouching.fault(release):
            raise StateError(f"{fault}; nothing was started", reason="RELEASE_UNATTESTED", remedy=REMEDY)
        return narrowed(plan, self._vouching.facts(release))

    async def create(
        self,
        plan_text: str,
        *,
        rollout_id: str,
        request_id: str,
        actor: str,
        reason: str,
        reverts: str = "",
        draft: bool = False,
    ) -> Rollout:
        """Start a rollout, or write it down. Writes one record, whatever the size of the fleet.

        Args:
            plan_text: The plan file.
            rollout_id: Its id; empty: the plan's name, or made up.
            request_id: A repetition of one starts nothing.
            actor: Who starts it.
            reason: Why.
            reverts: Id of the rollout that it undoes; empty for others.
            draft: Only written down; `StartRequested` starts it. A plan that asks for approvals is in any case.

        Raises:
            InvalidInputError: the plan or the id is faulty, or it neither undoes nor supersedes what it says.
            NotFoundError: there is no rollout to be undone.
            StateError: the plan targets nobody, the id is taken by another request, or the rollout to be undone runs.
        """
        plan = await self._read(plan_text)
        if reverts:
            check_revert(plan, await self.get(RolloutId(reverts)), await self._store.releases())
        mark = hashlib.sha256(request_id.encode()).hexdigest()[:8] if request_id else self._random_bytes(4).hex()
        chosen = rollout_id or plan.name or f"r-{plan.release.replace('.', '-')}-{mark}"
        if not ROLLOUT_ID_PATTERN.fullmatch(chosen):
            raise InvalidInputError(
                f"rollout id `{chosen}` must match {ROLLOUT_ID_PATTERN.pattern}", reason="ROLLOUT_ID_MALFORMED"
            )
        profiles = await self._store.profiles()
        others, releases = await self._store.rollouts(), await self._store.releases()
        plan = with_limits(plan, profiles, releases)
        check_supersedes(plan, chosen, others)
        regions = regions_of(plan, profiles)
        if not regions:
            raise StateError(
                "the plan targets no vehicle; nothing was started",
                reason="TARGET_EMPTY",
                remedy="`outrider rollout preview` says which rule excludes whom",
            )
        now = self._now()
        rollout = start(
            RolloutId(chosen),
            plan,
            plan_text,
            self._random_bytes(SALT_BYTES),
            regions,
            actor,
            reason,
            request_id,
            now,
            reverts,
            draft=draft,
            release_sha256=pinned(plan.release, releases),
        )
        data: dict[str, Json] = {
            "release": plan.release,
            "plan": plan_text,
            "salt": rollout.salt.hex(),
            "reverts": reverts,
            "targeted": {
                f"{cell.region}/{cell.hardware}/{cell.cohort}": count
                for cell, count in sorted(waiting(plan, profiles, releases).items())
            },
            "draft": draft,
            "release_sha256": rollout.release_sha256,
        }
        stored = await self._store.create_rollout(rollout, decision_entry(rollout, "rollout_created", data))
        repeated = bool(request_id) and stored.request_id == request_id and stored.plan_text == plan_text
        if stored.salt != rollout.salt and not repeated:
            raise StateError(
                f"rollout {chosen} exists already",
                reason="ROLLOUT_EXISTS",
                remedy="choose another id with --id, or another `name` in the plan",
            )
        await end_superseded(self._store, [stored, *others], now)
        return stored

    async def get(self, rollout_id: RolloutId) -> Rollout:
        """One rollout.

        Raises:
            NotFoundError: it was never started.
        """
        for rollout in await self._store.rollouts():
            if rollout.rollout_id == rollout_id:
                return rollout
        raise NotFoundError(
            f"rollout {rollout_id} was never started",
            reason="ROLLOUT_UNKNOWN",
            remedy="`outrider rollout list` shows all rollouts",
        )

    async def view(self, rollout_id: RolloutId) -> RolloutView:
        """One rollout with its counts.

        Raises:
            NotFoundError: it was never started.
        """
        return (await self._views([await self.get(rollout_id)]))[0]

    async def views(self) -> Sequence[RolloutView]:
        """Every rollout with its counts, newest first."""
        return await self._views(await self._store.rollouts())

    async def _views(self, rollouts: Sequence[Rollout]) -> Sequence[RolloutView]:
        tallies = await self._store.tallies([rollout.rollout_id for rollout in rollouts])
        profiles = await self._store.profiles()
        releases, now = await self._store.releases(), self._now()
        standings = await asyncio.gather(*(self._store.standing(rollout.rollout_id, now=now) for rollout in rollouts))
        return [
            view_of(rollout, tallies.get(rollout.rollout_id, {}), profiles, now, releases, standing)
            for rollout, standing in zip(rollouts, standings, strict=True)
        ]

    async def watch(self, rollout_id: RolloutId) -> AsyncIterator[RolloutView]:
        """The rollout now and each time something about it changed, until it is over and nothing is in flight.

        Raises:
            NotFoundError: it was never started.
        """
        shown: tuple[object, ...] | None = None
        while True:
            view = await self.view(rollout_id)
            waits = (view.waiting_for, view.approval_wanted, view.opens_at)
            state = (view.rollout, view.cells, view.waiting, *waits, view.outstanding, view.outstanding_until)
            if state != shown:
                shown = state
                yield view
            if view.rollout.status.over and not any(tally.in_flight for tally in view.cells.values()):
                return
            await self._machine.sleep(WATCH_S)

    async def request(self, rollout_id: RolloutId, request: Request, *, etag: str, request_id: str = "") -> Rollout:
        """Carry out a person's request, once for each `request_id`.

        Raises:
            NotFoundError: no such rollout.
            InvalidInputError: no reason was given.
            ForbiddenError: who created it approves it.
            ConflictError: the etag is not the rollout's, or others were faster time and again.
            StateError: not possible in this status.
        """
        if not reason_of(request).strip():
            raise InvalidInputError(
                "a reason is required", reason="REASON_MISSING", remedy="say why with --reason; it lands in the ledger"
            )
        if len(request_id) > REQUEST_ID_MAX:
            raise InvalidInputError(f"request_id has more than {REQUEST_ID_MAX} characters", reason="MALFORMED")
        for _ in range(CAS_TRIES):
            rollout = await self.get(rollout_id)
            if request_id and request_id in rollout.recent_requests:
                return rollout
            if etag and etag != etag_of(rollout):
                raise ConflictError(
                    f"rollout {rollout_id} has changed: etag {etag_of(rollout)}, not {etag}",
                    reason="ETAG_MISMATCH",
                    remedy="look at it again, then repeat",
                )
            await self._check(rollout, request)
            now = self._now()
            answer = step(rollout, request, now)
            if isinstance(answer, Illegal):
                raise StateError(answer.message, reason="ROLLOUT_STATUS", remedy=answer.remedy)
            if not answer.changed:
                return rollout
            requests = (*rollout.recent_requests, request_id)[-REQUESTS_KEPT:]
            changed = replace(answer.rollout, recent_requests=requests) if request_id else answer.rollout
            decision = decision_entry(changed, answer.kind, answer.data)
            if await self._store.transition(changed, expected_epoch=rollout.epoch, decision=decision):
                if isinstance(request, StartRequested):
                    await end_superseded(self._store, await self._store.rollouts(), now)
                return changed
        raise ConflictError(
            f"rollout {rollout_id} kept changing", reason="CONTENDED", remedy="look at it again, then repeat"
        )

    async def _check(self, rollout: Rollout, request: Request) -> None:
        """Refuse what the rollout alone cannot know, or what is about the person and not about the rollout."""
        if isinstance(request, PauseRequested):
            await self._check_variant(rollout, request.scope)
        if isinstance(request, SignalPosted):
            await self._check_variant(rollout, request.signal.scope)
        if isinstance(request, ApproveRequested) and request.actor == rollout.creator:
            raise ForbiddenError(
                f"{request.actor} created rollout {rollout.rollout_id} and cannot approve its waves",
                reason="OWN_ROLLOUT",
                remedy="ask another person with role approver",
            )
        if isinstance(request, ResumeRequested) and not rollout.status.over:
            check_resume(rollout, await self._store.rollouts())
        if isinstance(request, StartRequested) and not rollout.status.begun and rollout.reverts:
            undone = await self.get(RolloutId(rollout.reverts))
            check_revert(rollout.plan, undone, await self._store.releases())

    async def _check_variant(self, rollout: Rollout, scope: str) -> None:
        if "/" in scope:
            reached = (await self._store.tallies([rollout.rollout_id])).get(rollout.rollout_id, {})
            check_variant(rollout, scope, [*reached, *waiting(rollout.plan, await self._store.profiles())])

    async def propose_revert(self, rollout_id: RolloutId) -> tuple[str, ReleaseVersion]:
        """The plan file of a rollout that undoes this one, and the release it brings. Starts nothing.

        Raises:
            NotFoundError: it was never started.
            StateError: no release that undoes its release is registered, or another rollout undoes it now.
        """
        rollout = await self.get(rollout_id)
        others = await self._store.rollouts()
        check_proposal(rollout, others)
        back = way_back(rollout, await self._store.releases())
        tallies = await self._store.tallies([rollout_id])
        text = revert_plan(
            rollout,
            back,
            profiles=await self._store.profiles(),
            tally=total(tallies.get(rollout_id, {}).values()),
            taken={other.rollout_id for other in others},
        )
        return text, back.version

    def _now(self) -> FleetTime:
        return FleetTime(self._clock.now())


def pinned(version: ReleaseVersion, releases: Sequence[Release]) -> str:
    """The digest of a registered release, for the rollout that brings it."""
    return release_sha256(next(release for release in releases if release.version == version))


def reason_of(request: Request) -> str:
    """Why a person asks."""
    return request.signal.reason if isinstance(request, SignalPosted) else request.reason


def etag_of(rollout: Rollout) -> str:
    """AIP-154 entity tag."""
    return f'"{rollout.epoch}"'


def release_position(plan_text: str) -> tuple[int, int]:
    """Line and column, from 1, of the plan's `release` value, as far as a look at the text can tell."""
    for number, line in enumerate(plan_text.splitlines(), start=1):
        if line.startswith("release:"):
            return number, len("release:") + len(line[8:]) - len(line[8:].lstrip()) + 1
    return 1, 1


def rollout_id_of(name: str) -> RolloutId:
    """The id in a resource name `rollouts/{rollout_id}`.

    Raises:
        InvalidInputError: it is no such name.
    """
    prefix, _, rollout_id = name.partition("/")
    if prefix != "rollouts" or not ROLLOUT_ID_PATTERN.fullmatch(rollout_id):
        raise InvalidInputError(f"name must be rollouts/ID, not `{name}`", reason="NAME_MALFORMED")
    return RolloutId(rollout_id)
