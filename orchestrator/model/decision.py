"""Answers to "may this vehicle begin, or install, now?": values, never exceptions, with the numbers that decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.model.fleet import Cell, Habit
from orchestrator.model.ids import ReleaseVersion, RolloutId
from orchestrator.model.value import value


class RefusalReason(StrEnum):
    """Why not. One word for one reaction of whoever asks."""

    NOT_TARGETED = "not_targeted"
    ALREADY_INSTALLED = "already_installed"
    NEWER_INSTALLED = "newer_installed"
    INTERMEDIATE_MISSING = "intermediate_missing"
    RELEASE_CHANGED = "release_changed"
    NO_IMAGE_FOR_HARDWARE = "no_image_for_hardware"
    REGION_NOT_IN_PLAN = "region_not_in_plan"
    QUARANTINED = "quarantined"
    DENIED = "denied"
    APPROVAL_MISSING = "approval_missing"
    FOLLOWED_REGION_FIRST = "followed_region_first"
    WAVE_NOT_REACHED = "wave_not_reached"
    NOT_YET_DRAWN = "not_yet_drawn"
    HOLDOUT = "holdout"
    QUOTA_SPENT = "quota_spent"
    ATTEMPT_LIVE = "attempt_live"
    OTHER_ROLLOUT_FIRST = "other_rollout_first"
    ATTEMPTS_SPENT = "attempts_spent"
    RETRY_LATER = "retry_later"
    ATTEMPT_SETTLED = "attempt_settled"
    ROLLOUT_NOT_STARTED = "rollout_not_started"
    ROLLOUT_PAUSED = "rollout_paused"
    ROLLOUT_HELD = "rollout_held"
    ROLLOUT_HALTED = "rollout_halted"
    ROLLOUT_OVER = "rollout_over"
    IN_FLIGHT_SPENT = "in_flight_spent"
    BANDWIDTH_SPENT = "bandwidth_spent"
    STARTS_SPENT = "starts_spent"
    BLAST_BUDGET_SPENT = "blast_budget_spent"
    WATCHED = "watched"
    EVALUATOR_SILENT = "evaluator_silent"
    STALE_EPOCH = "stale_epoch"
    FENCED = "fenced"
    TOMBSTONED = "tombstoned"
    UNKNOWN_ATTEMPT = "unknown_attempt"
    ATTEMPT_OVER = "attempt_over"
    WRONG_STATE = "wrong_state"
    WINDOW_CLOSED = "window_closed"
    FREEZE_DAY = "freeze_day"
    CONSENT_MISSING = "consent_missing"
    LINK_METERED = "link_metered"
    LINK_UNSUITABLE = "link_unsuitable"
    STORAGE_LOW = "storage_low"
    BATTERY_LOW = "battery_low"
    NOT_PARKED = "not_parked"
    OFFLINE_NOT_ALLOWED = "offline_not_allowed"


@value(frozen=True, slots=True)
class Refusal:
    """No, and why."""

    reason: RefusalReason
    message: str
    """For people, with both numbers."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """The values that decided."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Yes: this vehicle may begin an attempt, if the store can reserve a slot."""

    rollout_id: RolloutId
    release: ReleaseVersion
    cell: Cell
    number: int
    """Which try it would be."""
    epoch: int
    """Of the rollout it was considered under."""
    habit: Habit
    """Of the vehicle."""
    quota: int | None
    """Vehicles of its cell that may have been admitted in all; None: as many as there are."""
    message: str
    """For people."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """The values that decided."""
