"""What each happening makes of a vehicle's persisted state: pure functions from state to state.

Owns the life of an attempt on the vehicle, and which event each step tells. Leaves to `agent` when things are done.
"""

from __future__ import annotations

from dataclasses import replace

from agent_sim.ecu import WantedImage, erased, run_already, swapped, written
from agent_sim.messages import Conditions, Diagnostic, EventKind, InstallDirective, MetadataVersions, Poll
from agent_sim.pacing import failure_code
from agent_sim.persisted import FINISHED_KEPT, PersistedState, Phase, Progress, SignedManifest

BEFORE_PERMIT = frozenset({Phase.CHECKING, Phase.DOWNLOADING, Phase.DOWNLOADED})


def poll_of(state: PersistedState, conditions: Conditions, diagnostics: tuple[Diagnostic, ...] = ()) -> Poll:
    """What a check-in says."""
    return Poll(
        outbox_id=state.outbox.outbox_id,
        events=state.outbox.batch,
        oldest_number=state.outbox.oldest_number,
        manifest_sha256=state.manifest.sha256 if state.manifest else "",
        director=state.director,
        image=state.image,
        conditions=conditions,
        diagnostics=diagnostics,
    )


def tell(state: PersistedState, attempt_id: str, kind: EventKind, now: int, code: str = "") -> PersistedState:
    """One more event in the outbox."""
    return replace(state, outbox=state.outbox.add(attempt_id, kind, at=now, failure_code=code))


def end(state: PersistedState) -> PersistedState:
    """No attempt at hand any more; it is remembered as ended."""
    assert state.progress is not None, "there is no attempt to end"
    return _remember(replace(state, progress=None), state.progress.attempt_id)


def _remember(state: PersistedState, attempt_id: str) -> PersistedState:
    return replace(state, finished=(*state.finished, attempt_id)[-FINISHED_KEPT:])


def move(state: PersistedState, phase: Phase) -> PersistedState:
    """The attempt at hand, one phase on."""
    assert state.progress is not None, "only an attempt has a phase"
    return replace(state, progress=replace(state.progress, phase=phase))


def take_up(state: PersistedState, install: InstallDirective) -> PersistedState:
    """Begin an attempt, in place of an older one unless that installs already; a known one learns what changed."""
    progress = state.progress
    if install.attempt_id in state.finished:
        return state
    if progress is not None and progress.attempt_id == install.attempt_id:
        learned = replace(
            progress,
            image_base_urls=install.image_base_urls,
            consent=install.consent,
            preconditions=install.preconditions,
            notes=install.notes,
            offline_permit_ms=install.offline_permit_ms,
        )
        return state if learned == progress else replace(state, progress=learned)
    if progress is not None:
        if progress.phase not in BEFORE_PERMIT:
            return state
        state = end(state)
    fresh = Progress(
        attempt_id=install.attempt_id,
        rollout_id=install.rollout_id,
        release=install.release,
        phase=Phase.CHECKING,
        image_base_urls=install.image_base_urls,
        consent=install.consent,
        preconditions=install.preconditions,
        notes=install.notes,
        offline_permit_ms=install.offline_permit_ms,
    )
    return replace(state, progress=fresh)


def forget_unverified(state: PersistedState) -> PersistedState:
    """Without the attempt whose metadata was not verified yet: its directive comes again with the next poll."""
    unverified = state.progress is not None and state.progress.phase is Phase.CHECKING
    return replace(state, progress=None) if unverified else state


def drop_if_over(state: PersistedState) -> PersistedState:
    """An answer without a directive: an attempt that has not begun to install is over, and nobody waits for word of it.

    Otherwise the owner would be asked about it, and its images kept, for ever.
    """
    progress = state.progress
    return end(state) if progress is not None and progress.phase in BEFORE_PERMIT else state


def withdraw(state: PersistedState, attempt_id: str, now: int) -> PersistedState:
    """Drop an attempt that has no permit; nothing stops one that has."""
    progress = state.progress
    if progress is not None and progress.attempt_id == attempt_id:
        if progress.phase not in BEFORE_PERMIT:
            return state
        return tell(end(state), attempt_id, EventKind.WITHDRAWAL_OBEYED, now)
    if attempt_id in state.finished:
        return state
    # Taken back before its directive arrived: say so, and never take it up.
    return tell(_remember(state, attempt_id), attempt_id, EventKind.WITHDRAWAL_OBEYED, now)


def verified(
    state: PersistedState,
    images: tuple[WantedImage, ...],
    *,
    director: MetadataVersions,
    image: MetadataVersions,
    now: int,
) -> PersistedState:
    """Metadata is good: what it names is to be fetched, unless that runs already (then the attempt ends and nothing is
    told). That the download began is told by `download_begun`, when it may.
    """
    progress = progress_of(state)
    state = replace(state, director=director, image=image)
    if not images:
        return reject(state, "nothing_assigned", now)
    if run_already(state.ecus, images):
        return end(state)
    return replace(state, progress=replace(progress, phase=Phase.DOWNLOADING, images=images))


def download_begun(state: PersistedState, now: int) -> PersistedState:
    """Images are being fetched from here on."""
    return tell(state, progress_of(state).attempt_id, EventKind.DOWNLOAD_STARTED, now)


def reject(state: PersistedState, cause: str, now: int) -> PersistedState:
    """Refuse the attempt before any permit."""
    return tell(end(state), progress_of(state).attempt_id, EventKind.REJECTED, now, failure_code(cause))


def fetched(state: PersistedState, now: int) -> PersistedState:
    """One image more is complete and good."""
    progress = progress_of(state)
    progress = replace(progress, fetched=progress.fetched + 1, received=0)
    state = replace(state, progress=progress)
    if progress.fetched < len(progress.images):
        return state
    return tell(move(state, Phase.DOWNLOADED), progress.attempt_id, EventKind.DOWNLOAD_FINISHED, now)


def received(state: PersistedState, count: int) -> PersistedState:
    """The download at hand has `count` bytes."""
    return replace(state, progress=replace(progress_of(state), received=count))


def permitted(state: PersistedState) -> PersistedState:
    """A permit came."""
    return replace(state, progress=replace(progress_of(state), permitted=True))


def use_permit(state: PersistedState, now: int) -> PersistedState:
    """The point of no return: the inactive slots are erased from here on."""
    progress = progress_of(state)
    state = move(replace(state, ecus=erased(state.ecus, progress.images)), Phase.INSTALLING)
    return tell(state, progress.attempt_id, EventKind.INSTALL_STARTED, now)


def slots_written(state: PersistedState, now: int) -> PersistedState:
    """The next boot is from the new slots."""
    progress = progress_of(state)
    state = replace(state, ecus=swapped(written(state.ecus, progress.images), progress.images))
    return tell(move(state, Phase.REBOOTING), progress.attempt_id, EventKind.REBOOT_STARTED, now)


def write_failed(state: PersistedState, cause: str, now: int) -> PersistedState:
    """The installation failed before the restart; the active slots were never touched."""
    return tell(end(state), progress_of(state).attempt_id, EventKind.FAILED, now, failure_code(cause))


def booted(state: PersistedState, now: int, *, self_test_passed: bool) -> PersistedState:
    """Up again after the restart: in the new slots, or back in the old ones."""
    progress = progress_of(state)
    state = end(state)
    if self_test_passed:
        return tell(state, progress.attempt_id, EventKind.VERIFY_STARTED, now)
    state = replace(state, ecus=swapped(state.ecus, progress.images))
    return tell(state, progress.attempt_id, EventKind.ROLLED_BACK, now, "self_test_failed")


def attest(state: PersistedState, manifest: SignedManifest) -> PersistedState:
    """A new manifest, in place of the one before."""
    return replace(state, manifest=manifest, manifest_counter=manifest.counter)


def submitted(state: PersistedState, value: bool) -> PersistedState:
    """Whether the orchestrator has the manifest."""
    if state.manifest is None or state.manifest.submitted == value:
        return state
    return replace(state, manifest=replace(state.manifest, submitted=value))


def acknowledge(state: PersistedState, number: int) -> PersistedState:
    """Events up to `number` are durable elsewhere."""
    outbox = state.outbox.acknowledge(number)
    return state if outbox is state.outbox else replace(state, outbox=outbox)


def progress_of(state: PersistedState) -> Progress:
    """The attempt at hand, which must be there."""
    assert state.progress is not None, "this belongs to an attempt"
    return state.progress
