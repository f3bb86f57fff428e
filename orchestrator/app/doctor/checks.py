"""The checks by name and order, and how they are run: each by itself, none for ever.

Owns that a check which fails or hangs is a finding like any other and keeps no other check from running.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from orchestrator.app.doctor import folder, images, service, state, trust
from orchestrator.app.doctor.findings import Finding, error
from orchestrator.app.doctor.patient import Patient

DEADLINE_S = 60.0
"""How long one check may take, machine seconds; a long append-only file is read through."""


@dataclass(frozen=True, slots=True)
class Check:
    """One look at an installation."""

    name: str
    about: str
    """What it looks at, for progress."""
    look: Callable[[Patient], Iterable[Finding]]


CHECKS: tuple[Check, ...] = (
    Check("folder", "the data folder", folder.check_layout),
    Check("permissions", "who can read private keys", folder.check_permissions),
    Check("settings", "settings", folder.check_settings),
    Check("disk", "the disk", folder.check_disk),
    Check("time zones", "time zone data", folder.check_zones),
    Check("authorities", "certificate authorities", trust.check_authorities),
    Check("operators", "operators' certificates", trust.check_operators),
    Check("image repository", "the Image repository's metadata", trust.check_image_repository),
    Check("images", "the bytes of images", images.check_images),
    Check("vouching", "who vouches for images", trust.check_vouching),
    Check("director", "the Director's keys and roots", trust.check_director),
    Check("offline keys", "keys that should not be here", trust.check_offline_keys),
    Check("store", "the store", state.check_store),
    Check("ledger", "the ledger", state.check_ledger),
    Check("service", "who serves", service.check_process),
    Check("readiness", "readiness", service.check_readiness),
    Check("ports", "ports and their certificates", service.check_ports),
    Check("evaluator", "the evaluator", service.check_evaluator),
    Check("fleet time", "the fleet clock", service.check_clock),
    Check("version", "versions", service.check_build),
)
"""From the ground up: what a later one needs comes before it."""


def examine(patient: Patient, *, checks: Iterable[Check] = CHECKS, deadline_s: float = DEADLINE_S) -> Iterator[Finding]:
    """Run checks one after the other.

    Args:
        patient: whom.
        checks: which, in order.
        deadline_s: machine time that each may take; one that hangs is left behind.

    Yields:
        Findings, as soon as a check is through; where there is no folder at all, only that.
    """
    for check in checks:
        if check is not CHECKS[0] and not patient.installation.data.is_dir():
            # Whoever named the wrong folder is helped by that one line, not by twenty that follow from it.
            return
        answers: SimpleQueue[list[Finding]] = SimpleQueue()
        # A thread that hangs must not keep the command from ending: daemons do not.
        Thread(target=_look, args=(check, patient, answers), name=f"doctor-{check.name}", daemon=True).start()
        try:
            yield from answers.get(timeout=deadline_s)
        except Empty:
            remedy = "something it asked hangs: the disk, the store or the service; look at what it is about"
            yield error(check.name, f"no answer within {deadline_s:g} s about {check.about}", remedy)


def _look(check: Check, patient: Patient, answers: SimpleQueue[list[Finding]]) -> None:
    found: list[Finding] = []
    try:
        found.extend(check.look(patient))
    except Exception as fault:
        # A defect in one check must not hide what the others find.
        cause = f"{type(fault).__name__}: {fault}"
        found.append(error(check.name, cause, "this check itself failed; please report it"))
    answers.put(found)
