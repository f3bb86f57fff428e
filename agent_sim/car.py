"""The body around an agent: power, flash memory, link and faults. Pure: takes `now`, returns what the shell must do.

Owns what physically happens (a slot is written, power goes, the vehicle never comes up again) and the simulator's own
record of it. Leaves calls, downloads and verification to the shell, and the protocol to `agent`.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from agent_sim.actions import (
    Action,
    Actions,
    AskOwner,
    AuthorizeCall,
    Call,
    CallFailed,
    CheckInCall,
    DiscardImages,
    FetchBroken,
    FetchImage,
    FetchMetadataCall,
    Input,
    ManifestReplied,
    MetadataFetched,
    OwnerAnswered,
    PermitReplied,
    Persist,
    PollReplied,
    Reboot,
    SlotsWritten,
    SubmitManifestCall,
    TellOwner,
    Verify,
    WriteFailed,
    WriteSlots,
)
from agent_sim.agent import Agent, SignManifest
from agent_sim.car_state import CarState
from agent_sim.connectivity import Outage
from agent_sim.ecu import Ecu
from agent_sim.faults import Fault, FaultBook, FaultKind
from agent_sim.images import version_of
from agent_sim.messages import Conditions, Diagnostic, PollReply
from agent_sim.pacing import AgentConfig
from agent_sim.persisted import PersistedState, Phase
from agent_sim.surroundings import World
from agent_sim.vehicle import VehicleSpec
from signing.errors import AttackCode


@dataclass(frozen=True, slots=True)
class BodyConfig:
    """How long things take, fleet time."""

    install_ms: int = 300_000
    reboot_ms: int = 120_000


@dataclass(frozen=True, slots=True)
class Save:
    """Make the vehicle's state durable before doing anything after this."""

    state: CarState


@dataclass(frozen=True, slots=True)
class Download:
    """Fetch an image over a link that may break."""

    fetch: FetchImage
    break_at: int | None
    """Byte at which the connection breaks; None: it holds."""


Errand = Save | Call | Verify | Download | DiscardImages
"""What a car asks of the shell."""


_REPLIES = (PollReplied, ManifestReplied, PermitReplied, MetadataFetched)


@dataclass(frozen=True, slots=True)
class _Pending:
    """What the body does next."""

    at: int
    outcome: SlotsWritten | WriteFailed | None = None
    """For the agent; None: power goes, or comes back."""
    power_on: bool = False
    self_test_passed: bool = True


class Car:
    """One vehicle on the road.

    Args:
        spec: what the factory made.
        state: what survived.
        surroundings: where and how it stands.
        book: its faults.
        agent_config: how its agent behaves.
        body: how long things take.
        sign: its units' keys at work.
        seed: of the scenario.
    """

    def __init__(
        self,
        spec: VehicleSpec,
        state: CarState,
        *,
        surroundings: World,
        book: FaultBook,
        agent_config: AgentConfig,
        body: BodyConfig,
        sign: SignManifest,
        seed: int,
    ) -> None:
        self.spec = spec
        self._state = state
        self._saved = state
        self._book = book
        self._agent_config = agent_config
        self._body = body
        self._sign = sign
        self._seed = seed
        self._tokens = itertools.count(1)
        self._agent: Agent | None = None
        self._pending: _Pending | None = None
        self._answer: tuple[int, str, OwnerAnswered] | None = None
        """When the owner answers, about which attempt, what."""
        self._surroundings = surroundings
        self._offline_until = 0
        self._outages: tuple[Outage, ...] = ()
        self._once: set[tuple[str, str]] = set()
        self._replies = 0
        self._slow = False

    @property
    def state(self) -> CarState:
        """The truth about this vehicle."""
        return self._state

    @property
    def bricked(self) -> bool:
        """Whether it will never speak again."""
        return bool(self._state.bricked_by)

    @property
    def settled(self) -> bool:
        """Whether nothing is under way and the orchestrator knows everything; a bricked vehicle has no more to say."""
        return self.bricked or (self._agent is not None and self._agent.idle)

    def suffer(self, outages: Iterable[Outage]) -> None:
        """Be without a link in these times as well."""
        self._outages = tuple(sorted(outages, key=lambda outage: outage.begins_at))

    def conditions(self, now: int) -> Conditions:
        """How it stands; what was downloaded takes its room."""
        progress = self._state.agent.progress
        held = sum(image.length for image in progress.images[: progress.fetched]) + progress.received if progress else 0
        conditions = self._surroundings.conditions(now)
        return replace(conditions, storage_free_bytes=max(0, conditions.storage_free_bytes - held))

    def leaves_reach(self, now: int) -> bool:
        """Whether it is on its way to where it has no link."""
        return self.spec.connectivity.leaves_reach(now)

    def diagnostics(self, now: int) -> tuple[Diagnostic, ...]:
        """Trouble codes that are active, the most severe first."""
        running = {version_of(ecu.running.path) for ecu in self._state.agent.ecus}
        if not self._state.installed_at or len(running) > 1:
            return ()
        faults = self._book.hits(FaultKind.TROUBLE_CODE, release=running.pop())
        found = [self._diagnostic(fault) for fault in faults]
        active = [diagnostic for diagnostic in found if diagnostic.first_seen_at <= now]
        return tuple(sorted(active, key=lambda diagnostic: (diagnostic.severity.rank, diagnostic.code)))

    def _diagnostic(self, fault: Fault) -> Diagnostic:
        units = [ecu.serial for ecu in self.spec.ecus if ecu.hardware_id == fault.ecu] or [self.spec.primary.serial]
        seen_at = self._state.installed_at + fault.after_ms
        return Diagnostic(fault.trouble_code, units[0], fault.severity, seen_at)

    @property
    def due_at(self) -> int | None:
        """Fleet time at which `handle_due` wants to be called; None: only an answer can move it, or nothing."""
        times = [self._pending.at] if self._pending else []
        times += [self._answer[0]] if self._answer and self._agent is not None else []
        if self._agent is not None and self._agent.due_at is not None:
            times.append(self._agent.due_at)
        return min(times, default=None)

    def start(self, now: int) -> list[Errand]:
        """Power on, or go on after the simulator's own restart; a bricked vehicle does nothing."""
        if self.bricked:
            return []
        progress = self._state.agent.progress
        if (
            progress is not None
            and progress.phase is Phase.REBOOTING
            and progress.attempt_id not in self._state.installs
        ):
            self._restart(now)
            return self._carry_out((), now)
        return self._boot(now, passed=not self._hit(FaultKind.BOOT_FAILURE))

    def handle_due(self, now: int) -> list[Errand]:
        """Do what is due at `now`."""
        if self._pending is not None and now >= self._pending.at:
            pending, self._pending = self._pending, None
            if pending.outcome is not None:
                return self._give(pending.outcome, now)
            if pending.power_on:
                return self._boot(now, passed=pending.self_test_passed)
            self._agent = None
            self._pending = _Pending(now + self._body.reboot_ms, power_on=True)
            return []
        if self._answer is not None and self._agent is not None and now >= self._answer[0]:
            (_, attempt_id, answered), self._answer = self._answer, None
            return self._say(attempt_id, answered, now)
        return self._carry_out(self._agent.handle_due(now), now) if self._agent else []

    def handle(self, happened: Input, now: int) -> list[Errand]:
        """Take an answer from the shell; one for a vehicle without power is lost."""
        if self._agent is None:
            return []
        if isinstance(happened, _REPLIES) and self._reply_lost():
            happened = CallFailed(happened.token)
        elif isinstance(happened, PollReplied):
            happened = replace(happened, reply=self._without_lost_files(happened.reply))
        elif isinstance(happened, FetchBroken) and happened.slow:
            self._slow = True
        elif isinstance(happened, PermitReplied) and happened.reply.permitted:
            self._note_permit(happened.reply.attempt_id)
        return self._give(happened, now)

    def _boot(self, now: int, *, passed: bool) -> list[Errand]:
        progress = self._state.agent.progress
        if passed and progress is not None and progress.phase is Phase.REBOOTING:
            self._state = replace(self._state, installed_at=now)
        self._answer = None
        boots = self._state.boots + 1
        self._state = replace(self._state, boots=boots)
        rng = random.Random(f"{self._seed}/{self.spec.vehicle_id}/{boots}")  # noqa: S311 - jitter, not secrets
        self._agent = Agent(
            self._agent_config, self._state.agent, senses=self, sign=self._signed, rng=rng, tokens=self._tokens
        )
        return self._carry_out(self._agent.start(now, self_test_passed=passed), now)

    def _signed(self, ecus: tuple[Ecu, ...], counter: int, at: int, attack: str) -> bytes:
        """A manifest; the first after a mirror was too slow reports that, where there is nothing worse."""
        slow, self._slow = self._slow, False
        return self._sign(ecus, counter, at, attack or (AttackCode.SLOW_RETRIEVAL.value if slow else ""))

    def _say(self, attempt_id: str, answered: OwnerAnswered, now: int) -> list[Errand]:
        """The owner answers."""
        self._note(attempt_id, answered.answer.value)
        return self._give(answered, now)

    def _give(self, happened: Input, now: int) -> list[Errand]:
        return self._carry_out(self._agent.handle(happened, now), now) if self._agent else []

    def _carry_out(self, actions: Actions, now: int) -> list[Errand]:
        """Do what the body can do itself; what the link or the flash answers at once may lead to more."""
        errands: list[Errand] = []
        queue: list[Action] = list(actions)
        while queue:
            action = queue.pop(0)
            answer = self._do(action, now, errands)
            if answer is not None and self._agent is not None:
                queue.extend(self._agent.handle(answer, now))
        if self._state is not self._saved:
            self._saved = self._state
            errands.insert(0, Save(self._state))
        return errands

    def _do(self, action: Action, now: int, errands: list[Errand]) -> Input | None:
        match action:
            case Persist(state=state):
                self._persist(state)
            case CheckInCall() | SubmitManifestCall() | AuthorizeCall() | FetchMetadataCall():
                link_at = self._link_at(now)
                if link_at > now:
                    return CallFailed(action.token, no_link_until=link_at)
                errands.append(action)
            case FetchImage():
                self._maybe_go_offline(now)
                link_at = self._link_at(now)
                if link_at > now:
                    return FetchBroken(action.token, action.from_offset, no_link_until=link_at)
                errands.append(Download(action, self._break_at(action)))
            case WriteSlots():
                self._write(action, now)
            case Reboot():
                self._restart(now)
            case AskOwner():
                answer = self.spec.owner.answer(action, vehicle_id=self.spec.vehicle_id, now=now)
                self._answer = (answer[0], action.attempt_id, answer[1]) if answer else None
            case TellOwner(attempt_id=attempt_id):
                self._note(attempt_id, "told")
            case Verify() | DiscardImages():
                errands.append(action)
        return None

    def _persist(self, agent: PersistedState) -> None:
        attempts = self._state.attempts
        progress = agent.progress
        if progress is not None and (progress.attempt_id, progress.release) not in attempts:
            attempts = (*attempts, (progress.attempt_id, progress.release))
        self._state = replace(self._state, agent=agent, attempts=attempts)

    def _note_permit(self, attempt_id: str) -> None:
        if attempt_id not in self._state.permits:
            self._state = replace(self._state, permits=(*self._state.permits, attempt_id))

    def _note(self, attempt_id: str, word: str) -> None:
        self._state = replace(self._state, answers=(*self._state.answers, (attempt_id, word)))

    # Physics and faults

    def _hit(self, kind: FaultKind, occasion: str = "") -> bool:
        return self._book.hit(kind, release=self._release, occasion=occasion) is not None

    @property
    def _release(self) -> str:
        progress = self._state.agent.progress
        return progress.release if progress else ""

    @property
    def _attempt_id(self) -> str:
        progress = self._state.agent.progress
        return progress.attempt_id if progress else ""

    def _first_time(self, kind: FaultKind) -> bool:
        key = (kind.value, self._attempt_id)
        first = key not in self._once
        self._once.add(key)
        return first

    def _reply_lost(self) -> bool:
        self._replies += 1
        return self._hit(FaultKind.LOST_REPLIES, f"{self._state.boots}/{self._replies}")

    def _without_lost_files(self, reply: PollReply) -> PollReply:
        where = f"{self._state.boots}/{self._replies}"
        kept = [f for f in reply.metadata if not self._hit(FaultKind.LOST_METADATA, f"{where}/{f.repository}/{f.name}")]
        return replace(reply, metadata=tuple(kept)) if len(kept) < len(reply.metadata) else reply

    def _link_at(self, now: int) -> int:
        link_at = self.spec.connectivity.online_from(max(now, self._offline_until))
        for outage in self._outages:
            if outage.begins_at <= link_at < outage.ends_at:
                link_at = self.spec.connectivity.online_from(outage.ends_at)
        return link_at

    def _maybe_go_offline(self, now: int) -> None:
        fault = self._book.hit(FaultKind.OFFLINE, release=self._release, occasion=self._attempt_id)
        if fault is not None and self._first_time(FaultKind.OFFLINE):
            self._offline_until = now + fault.duration_ms

    def _break_at(self, fetch: FetchImage) -> int | None:
        image = fetch.image
        at = self._book.break_at(release=self._release, sha256=image.sha256, length=image.length)
        return at if at is not None and at > fetch.from_offset else None

    def _write(self, write: WriteSlots, now: int) -> None:
        fault = self._book.hit(FaultKind.FAIL, release=self._release)
        if self._hit(FaultKind.POWER_LOSS, self._attempt_id) and self._first_time(FaultKind.POWER_LOSS):
            self._pending = _Pending(now + self._body.install_ms // 2)
        elif fault is not None:
            outcome = WriteFailed(write.token, fault.failure_code)
            self._pending = _Pending(now + self._body.install_ms, outcome)
        else:
            self._pending = _Pending(now + self._body.install_ms, SlotsWritten(write.token))

    def _restart(self, now: int) -> None:
        self._state = replace(self._state, installs=(*self._state.installs, self._attempt_id))
        self._agent = None
        if self._hit(FaultKind.SILENT_BRICK):
            self._state = replace(self._state, bricked_by=self._release)
            return
        passed = not self._hit(FaultKind.BOOT_FAILURE)
        self._pending = _Pending(now + self._body.reboot_ms, power_on=True, self_test_passed=passed)
