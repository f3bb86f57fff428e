"""The agent of one vehicle: a state machine without IO, clock, or keys.

Owns when the vehicle speaks and acts, and the order: nothing is sent that is not persisted, nothing installed without
a permit. Leaves what a happening makes of the state to `steps`, and to its caller to carry out the actions in order,
to answer each once, and to call `handle_due` at `due_at`. Source: design.md, "Vehicle protocol".

One call and one job (verify, fetch, write) are outstanding at most. After every input `_advance` issues what is wanted
and may be issued; a changed state is persisted ahead of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from agent_sim import steps
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
    ImageFetched,
    ImageRefused,
    Input,
    Job,
    ManifestReplied,
    PermitReplied,
    Persist,
    PollReplied,
    Reboot,
    SlotsWritten,
    SubmitManifestCall,
    VerificationFailed,
    Verified,
    Verify,
    WriteFailed,
    WriteSlots,
)
from agent_sim.ecu import Ecu
from agent_sim.messages import InstallDirective, MetadataFile, PermitReply, PollReply, WithdrawDirective
from agent_sim.pacing import Pace
from agent_sim.persisted import PersistedState, Phase, Progress, SignedManifest

SignManifest = Callable[[tuple[Ecu, ...], int, int, str], bytes]
"""Signs what the units run: (units, counter, fleet time, attack code or empty) -> the manifest's bytes."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """How an agent behaves; durations in milliseconds of fleet time."""

    pace: Pace = field(default_factory=Pace)
    first_poll_within_ms: int = 600_000
    """After power on with nothing to tell, the first poll comes within this."""
    link_wake_within_ms: int = 120_000
    """After the link comes back the first call comes within this: those who wake together do not call together."""


class Agent:
    """One vehicle's Primary, from power on to power off.

    Args:
        config: how it behaves.
        state: what survived.
        sign: makes the vehicle version manifest with each unit's own key.
        rng: for jitter only.
        tokens: numbers that no earlier action of this vehicle carried.
    """

    def __init__(
        self,
        config: AgentConfig,
        state: PersistedState,
        *,
        sign: SignManifest,
        rng: random.Random,
        tokens: Iterator[int],
    ) -> None:
        self._config = config
        self._sign = sign
        self._rng = rng
        self._tokens = tokens
        self._state = state
        self._saved = state
        self._out: list[Action] = []
        self._off = False
        self._call: Call | None = None
        self._called_at = 0
        self._call_after = 0
        self._call_failures = 0
        self._poll_at = 0
        self._authorize_at = 0
        self._flush = False
        """Whether there is news that should not wait for the next poll."""
        self._job: Job | None = None
        self._files: tuple[MetadataFile, ...] = ()
        self._fetch_after = 0
        self._fetch_failures = 0

    @property
    def state(self) -> PersistedState:
        """What would survive a loss of power now."""
        return self._state

    @property
    def due_at(self) -> int | None:
        """Fleet time at which `handle_due` wants to be called; None when only an answer can move the agent."""
        times = [] if self._call else [max(self._call_after, self._wanted_at())]
        if self._job is None and self._phase is Phase.DOWNLOADING:
            times.append(self._fetch_after)
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
        # Whoever asks for a permit has told first that the images are there.
        return self._phase is Phase.DOWNLOADED and not self._state.outbox.events

    def _wanted_at(self) -> int:
        if self._flush or self._manifest_due or self._phase is Phase.REBOOTING:
            return 0
        return min(self._poll_at, self._authorize_at) if self._may_authorize else self._poll_at

    def _advance(self, now: int) -> Actions:
        if not self._off:
            self._advance_job(now)
            self._advance_call(now)
        out, self._out = self._out, []
        if self._state is self._saved:
            return tuple(out)
        self._saved = self._state
        return (Persist(self._state), *out)

    def _advance_job(self, now: int) -> None:
        progress = self._state.progress
        if self._job is not None or progress is None:
            return
        if progress.phase is Phase.CHECKING:
            files, self._files = self._files, ()
            self._begin(Verify(next(self._tokens), files))
        elif progress.phase is Phase.DOWNLOADING and now >= self._fetch_after:
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
        may_call = now >= self._call_after
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
        elif self._may_authorize and progress is not None and now >= self._authorize_at and not self._flush:
            self._call = AuthorizeCall(token, progress.attempt_id)
        else:
            self._flush = False
            self._call = CheckInCall(token, steps.poll_of(self._state))
        self._called_at = now
        self._out.append(self._call)

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
                self._permit_answered(permit_reply, now)
            case _:
                raise TypeError(f"{happened!r} does not answer {call!r}")
        self._call_failures = 0

    def _call_failed(self, call: Call, failure: CallFailed, now: int) -> None:
        if failure.no_link_until is not None:
            self._call_after = self._wake_at(failure.no_link_until)
        elif failure.retry_after_ms is not None:
            self._call_after = now + self._config.pace.retry_after(failure.retry_after_ms, self._rng)
        else:
            self._call_after = now + self._config.pace.backoff(self._call_failures, self._rng)
            self._call_failures += 1
        if isinstance(call, CheckInCall):
            # Before a restart one try must do: the events are persisted and go out after it.
            self._flush = self._phase is not Phase.REBOOTING
        elif isinstance(call, SubmitManifestCall) and failure.refused:
            self._attest(now)

    def _wake_at(self, link_at: int) -> int:
        return link_at + round(self._rng.uniform(0, self._config.link_wake_within_ms))

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
            case _:
                # Without a directive nothing is verified: the files come again, fresher, with the next one.
                pass

    def _take_up(self, install: InstallDirective, files: tuple[MetadataFile, ...]) -> None:
        state = steps.take_up(self._state, install)
        if state is self._state:
            return
        self._become(state)
        if self._phase is Phase.CHECKING and self._job is None:
            self._files = files

    def _permit_answered(self, reply: PermitReply, now: int) -> None:
        progress = self._state.progress
        if progress is None or progress.phase is not Phase.DOWNLOADED:
            return
        if not reply.permitted:
            if reply.retry_after_ms is None:
                self._become(steps.end(self._state))
            else:
                self._authorize_at = now + self._config.pace.retry_after(reply.retry_after_ms, self._rng)
        elif reply.attempt_id == progress.attempt_id and now <= self._called_at + reply.valid_for_ms:
            self._become(steps.use_permit(self._state, now))
        else:
            self._authorize_at = now + self._config.pace.backoff(0, self._rng)

    # Outcomes of jobs

    def _job_done(self, happened: Input, now: int) -> None:
        progress = self._state.progress
        assert progress is not None, "a job belongs to an attempt"
        match happened:
            case Verified():
                self._verified(happened, now)
            case VerificationFailed(attack=attack) | ImageRefused(attack=attack):
                self._become(steps.reject(self._state, attack, now))
                self._attest(now, attack)
            case ImageFetched():
                self._become(steps.fetched(self._state, now))
                self._fetch_after, self._fetch_failures, self._authorize_at = now, 0, now
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
        self._become(steps.verified(self._state, good.images, director=good.director, image=good.image, now=now))
        self._fetch_after, self._fetch_failures = now, 0
        if self._state.progress is None:
            self._attest(now)

    def _fetch_broken(self, progress: Progress, broken: FetchBroken, now: int) -> None:
        if broken.received > progress.received:
            self._fetch_failures = 0
        self._become(steps.received(self._state, broken.received))
        if broken.no_link_until is not None:
            self._fetch_after = self._wake_at(broken.no_link_until)
        else:
            self._fetch_after = now + self._config.pace.backoff(self._fetch_failures, self._rng)
            self._fetch_failures += 1

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
            self._files = ()
            self._out.append(DiscardImages())

    def _attest(self, now: int, attack: str = "") -> None:
        # Seconds of fleet time keep the counter rising even for an agent that lost its state.
        counter = max(self._state.manifest_counter + 1, now // 1000)
        content = self._sign(self._state.ecus, counter, now, attack)
        manifest = SignedManifest(content, sha256(content).hexdigest(), counter, submitted=False)
        self._become(steps.attest(self._state, manifest))
