"""The agent of one vehicle: a state machine without IO, clock, or keys.

Owns when the vehicle speaks and acts, and the order: nothing is sent that is not persisted, nothing installed without
a permit, the owner's word and the conditions that were asked for. Leaves what a happening makes of the state to `steps`
and `readiness`, and to its caller to carry out the actions in order, to answer each once, and to call `handle_due` at
`due_at`. Source: docs/agent-protocol.md.

One call, one job (verify, fetch, write) and one question to the owner are outstanding at most. After every input
`_advance` issues what is wanted and may be issued; a changed state is persisted ahead of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from hashlib import sha256

from agent_sim import readiness, steps
from agent_sim.actions import (
    Action,
    Actions,
    AuthorizeCall,
    Call,
    CallFailed,
    CheckInCall,
    DiscardImages,
    FetchBroken,
    FetchImage,
    FetchMetadataCall,
    ImageFetched,
    ImageRefused,
    Input,
    Job,
    ManifestReplied,
    MetadataFetched,
    PermitReplied,
    Persist,
    PollReplied,
    Reboot,
    SlotsWritten,
    SubmitManifestCall,
    TellOwner,
    VerificationFailed,
    Verified,
    Verify,
    WriteFailed,
    WriteSlots,
)
from agent_sim.clearance import Clearance
from agent_sim.ecu import Ecu, run_already
from agent_sim.messages import (
    DIAGNOSTICS_PER_CALL_MAX,
    DiagnoseDirective,
    Diagnostic,
    InstallDirective,
    MetadataFile,
    PollReply,
    WithdrawDirective,
)
from agent_sim.pacing import AgentConfig, Retry
from agent_sim.persisted import PersistedState, Phase, Progress, SignedManifest
from agent_sim.senses import Senses

SignManifest = Callable[[tuple[Ecu, ...], int, int, str], bytes]
"""Signs what the units run: (units, counter, fleet time, attack code or empty) -> the manifest's bytes."""


_PERHAPS_STALE = frozenset({"missing", "freeze"})
"""What files that were lost on the way look like: before it is called an attack, all are fetched once more."""


class Agent:
    """One vehicle's Primary, from power on to power off.

    Args:
        config: how it behaves.
        state: what survived.
        senses: what it knows of its vehicle.
        sign: makes the vehicle version manifest with each unit's own key.
        rng: for jitter only.
        tokens: numbers that no earlier action of this vehicle carried.
    """

    def __init__(
        self,
        config: AgentConfig,
        state: PersistedState,
        *,
        senses: Senses,
        sign: SignManifest,
        rng: random.Random,
        tokens: Iterator[int],
    ) -> None:
        self._config = config
        self._senses = senses
        self._sign = sign
        self._rng = rng
        self._tokens = tokens
        self._state = state
        self._saved = state
        self._out: list[Action] = []
        self._off = False
        self._call: Call | None = None
        self._called_at = 0
        self._calls = Retry(config.pace, wake_within_ms=config.link_wake_within_ms, rng=rng)
        self._poll_at = 0
        self._clearance = Clearance(config.pace, look_every_ms=config.look_every_ms, rng=rng, tokens=tokens)
        self._diagnose: tuple[str, ...] = ()
        """Units whose diagnoses were asked for."""
        self._flush = False
        """Whether there is news that should not wait for the next poll."""
        self._job: Job | None = None
        self._files: tuple[MetadataFile, ...] = ()
        self._metadata_wanted = False
        self._refetched = False
        """Whether this attempt's metadata was fetched apart from a poll already."""
        self._fetches = Retry(config.pace, wake_within_ms=config.link_wake_within_ms, rng=rng)

    @property
    def state(self) -> PersistedState:
        """What would survive a loss of power now."""
        return self._state

    @property
    def due_at(self) -> int | None:
        """Fleet time at which `handle_due` wants to be called; None when only an answer can move the agent."""
        times = [] if self._call else [max(self._calls.after, self._wanted_at())]
        progress = self._state.progress
        if progress is not None:
            fetches = self._job is None and progress.phase is Phase.DOWNLOADING
            times += self._clearance.due_at(progress, fetch_at=self._fetches.after if fetches else None)
        return min(times) if times and not self._off else None

    @property
    def idle(self) -> bool:
        """Whether there is no attempt at hand and nothing that the orchestrator does not know yet."""
        told = self._state.manifest is not None and self._state.manifest.submitted
        return self._state.progress is None and not self._state.outbox.events and told

    def start(self, now: int, *, self_test_passed: bool = True) -> Actions:
        """Power on.

        Args:
            now: fleet time.
            self_test_passed: whether the slots named by the state came up; matters after a `Reboot` only.
        """
        self._poll_at = now + round(self._rng.uniform(0, self._config.first_poll_within_ms))
        self._become(steps.forget_unverified(self._state))
        if self._phase is Phase.REBOOTING:
            self._become(steps.booted(self._state, now, self_test_passed=self_test_passed))
            self._attest(now)
        self._flush = bool(self._state.outbox.events) or self._phase is not None
        return self._advance(now)

    def handle_due(self, now: int) -> Actions:
        """Do what is due at `now`."""
        return self._advance(now)

    def handle(self, happened: Input, now: int) -> Actions:
        """Take an answer; one that is not waited for changes nothing."""
        if self._off:
            return ()
        if self._call is not None and happened.token == self._call.token:
            call, self._call = self._call, None
            self._answered(call, happened, now)
        elif self._job is not None and happened.token == self._job.token:
            self._job = None
            self._job_done(happened, now)
        elif self._clearance.question is not None and happened.token == self._clearance.question.token:
            self._become(self._clearance.owner_answered(self._state, happened, now))
            if self._state.progress is None:
                self._attest(now)
        return self._advance(now)

    # What is wanted, and what may be issued

    @property
    def _phase(self) -> Phase | None:
        return self._state.progress.phase if self._state.progress else None

    @property
    def _manifest_due(self) -> bool:
        return self._state.manifest is not None and not self._state.manifest.submitted

    @property
    def _may_authorize(self) -> bool:
        # Whoever asks for a permit has told first that the images are there, and waits for nothing else.
        progress, told = self._state.progress, not self._state.outbox.events
        return told and progress is not None and self._clearance.may_ask(progress)

    def _wanted_at(self) -> int:
        if self._flush or self._manifest_due or self._metadata_wanted or self._phase is Phase.REBOOTING:
            return 0
        return min(self._poll_at, self._clearance.ask_at) if self._may_authorize else self._poll_at

    def _advance(self, now: int) -> Actions:
        if not self._off:
            self._advance_clearance(now)
            self._advance_job(now)
            self._advance_call(now)
        out, self._out = self._out, []
        if self._state is self._saved:
            return tuple(out)
        self._saved = self._state
        return (Persist(self._state), *out)

    def _advance_clearance(self, now: int) -> None:
        progress = self._state.progress
        if progress is None:
            return
        if (word := self._clearance.owner_wanted(progress, now)) is not None:
            self._out.append(word)
            if isinstance(word, TellOwner):
                self._become(readiness.told(self._state))
        downloads = self._job is None and progress.phase is Phase.DOWNLOADING and now >= self._fetches.after
        asks = isinstance(self._call, AuthorizeCall)
        if downloads or (progress.phase is Phase.DOWNLOADED and not asks):
            self._become(self._clearance.look(self._state, self._senses, now))

    def _advance_job(self, now: int) -> None:
        progress = self._state.progress
        if self._job is not None or progress is None:
            return
        if progress.phase is Phase.CHECKING and not self._metadata_wanted:
            files, self._files = self._files, ()
            self._begin(Verify(next(self._tokens), files))
        elif progress.phase is Phase.DOWNLOADING and now >= self._fetches.after and not progress.waiting_for:
            image = progress.images[progress.fetched]
            self._begin(FetchImage(next(self._tokens), progress.image_base_urls, image, progress.received))
        elif progress.phase is Phase.INSTALLING:
            self._begin(WriteSlots(next(self._tokens), progress.images))

    def _begin(self, job: Job) -> None:
        self._job = job
        self._out.append(job)

    def _advance_call(self, now: int) -> None:
        if self._call is not None:
            return
        may_call = now >= self._calls.after
        if self._phase is Phase.REBOOTING and not (self._flush and may_call):
            self._off = True
            self._out.append(Reboot())
        elif may_call and now >= self._wanted_at():
            self._issue(now)

    def _issue(self, now: int) -> None:
        token = next(self._tokens)
        manifest, progress = self._state.manifest, self._state.progress
        if self._manifest_due and manifest is not None and not self._flush:
            self._call = SubmitManifestCall(token, manifest.content)
        elif self._metadata_wanted and not self._flush:
            self._call = FetchMetadataCall(token, self._state.director, self._state.image)
        elif self._may_authorize and progress is not None and now >= self._clearance.ask_at and not self._flush:
            conditions, away = self._senses.conditions(now), self._clearance.away
            self._call = AuthorizeCall(token, progress.attempt_id, conditions, progress.consented, offline=away)
        else:
            self._flush = False
            self._call = CheckInCall(token, steps.poll_of(self._state, self._senses.conditions(now), self._ills(now)))
        self._called_at = now
        self._out.append(self._call)

    def _ills(self, now: int) -> tuple[Diagnostic, ...]:
        asked, self._diagnose = self._diagnose, ()
        active = sorted(self._senses.diagnostics(now), key=lambda diagnostic: diagnostic.ecu_serial not in asked)
        return tuple(active[:DIAGNOSTICS_PER_CALL_MAX])

    # Answers to calls

    def _answered(self, call: Call, happened: Input, now: int) -> None:
        match happened:
            case CallFailed():
                self._call_failed(call, happened, now)
                return
            case PollReplied(reply=poll_reply):
                self._polled(poll_reply, now)
            case ManifestReplied():
                self._become(steps.submitted(self._state, True))
            case PermitReplied(reply=permit_reply):
                answered = self._clearance.permit_answered(self._state, permit_reply, asked_at=self._called_at, now=now)
                self._become(answered)
            case MetadataFetched(files=files):
                self._files, self._metadata_wanted = files, False
            case _:
                raise TypeError(f"{happened!r} does not answer {call!r}")
        self._calls.worked()

    def _call_failed(self, call: Call, failure: CallFailed, now: int) -> None:
        self._calls.failed(now, no_link_until=failure.no_link_until, retry_after_ms=failure.retry_after_ms)
        if isinstance(call, CheckInCall):
            # Before a restart one try must do: the events are persisted and go out after it.
            self._flush = self._phase is not Phase.REBOOTING
        elif isinstance(call, SubmitManifestCall) and failure.refused:
            self._attest(now)
        elif isinstance(call, FetchMetadataCall) and failure.refused and self._metadata_wanted:
            self._metadata_wanted = False
            self._refuse("missing", now)

    def _polled(self, reply: PollReply, now: int) -> None:
        before = self._state.outbox
        self._become(steps.acknowledge(self._state, reply.acknowledged_number))
        self._poll_at = now + self._config.pace.next_poll(reply.next_poll_after_ms, self._rng)
        if self._state.outbox is not before and self._state.outbox.events:
            self._flush = True
        if reply.manifest_wanted and self._state.manifest is None:
            self._attest(now)
        elif reply.manifest_wanted:
            self._become(steps.submitted(self._state, False))
        match reply.directive:
            case InstallDirective() as install:
                self._take_up(install, reply.metadata)
            case WithdrawDirective(attempt_id=attempt_id):
                self._become(steps.withdraw(self._state, attempt_id, now))
            case DiagnoseDirective(ecu_serials=serials):
                self._diagnose = serials
                soon_ms = self._config.pace.next_poll(self._config.pace.poll_min_ms, self._rng)
                self._poll_at = min(self._poll_at, now + soon_ms)
            case None:
                # Nothing is verified either: the files come again, fresher, with the next directive.
                self._become(steps.drop_if_over(self._state))

    def _take_up(self, install: InstallDirective, files: tuple[MetadataFile, ...]) -> None:
        state = steps.take_up(self._state, install)
        if state is self._state:
            return
        self._become(state)
        if self._phase is Phase.CHECKING and self._job is None:
            self._files = files

    # Outcomes of jobs

    def _job_done(self, happened: Input, now: int) -> None:
        progress = self._state.progress
        assert progress is not None, "a job belongs to an attempt"
        match happened:
            case Verified():
                self._verified(happened, now)
            case VerificationFailed(attack=attack) if attack in _PERHAPS_STALE and not self._refetched:
                self._metadata_wanted = self._refetched = True
            case VerificationFailed(attack=attack) | ImageRefused(attack=attack):
                self._refuse(attack, now)
            case ImageFetched():
                self._become(steps.fetched(self._state, now))
                self._fetches.reset(now)
                self._clearance.begin(now)
            case FetchBroken():
                self._fetch_broken(progress, happened, now)
            case SlotsWritten():
                self._become(steps.slots_written(self._state, now))
            case WriteFailed(failure_code=cause):
                self._become(steps.write_failed(self._state, cause, now))
                self._attest(now)
            case _:
                raise TypeError(f"{happened!r} is not the outcome of a job")

    def _verified(self, good: Verified, now: int) -> None:
        nothing_new = not good.images or run_already(self._state.ecus, good.images)
        if nothing_new and not self._refetched:
            # An offer that assigns nothing new: its files may have been lost, and what is held was judged instead.
            self._metadata_wanted = self._refetched = True
            return
        self._become(steps.verified(self._state, good.images, director=good.director, image=good.image, now=now))
        self._fetches.reset(now)
        if self._state.progress is None:
            self._attest(now)
        elif not readiness.missing(self._state.progress, self._senses.conditions(now)):
            # Otherwise `_look` tells what it waits for, and of the start when that is there.
            self._become(steps.download_begun(self._state, now))

    def _refuse(self, attack: str, now: int) -> None:
        self._become(steps.reject(self._state, attack, now))
        self._attest(now, attack)

    def _fetch_broken(self, progress: Progress, broken: FetchBroken, now: int) -> None:
        if broken.received > progress.received:
            self._fetches.worked()
        self._become(steps.received(self._state, broken.received))
        self._fetches.failed(now, no_link_until=broken.no_link_until)

    # Changes of state

    def _become(self, state: PersistedState) -> None:
        before, self._state = self._state, state
        if state.outbox.next_number > before.outbox.next_number:
            self._flush = True
        ended = before.progress is not None and (
            state.progress is None or state.progress.attempt_id != before.progress.attempt_id
        )
        if ended:
            self._job = None
            self._clearance.drop()
            self._files, self._metadata_wanted, self._refetched = (), False, False
            self._out.append(DiscardImages())

    def _attest(self, now: int, attack: str = "") -> None:
        # Seconds of fleet time keep the counter rising even for an agent that lost its state.
        counter = max(self._state.manifest_counter + 1, now // 1000)
        content = self._sign(self._state.ecus, counter, now, attack)
        manifest = SignedManifest(content, sha256(content).hexdigest(), counter, submitted=False)
        self._become(steps.attest(self._state, manifest))
