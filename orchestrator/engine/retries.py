"""Retries: whether an attempt that ended without success is followed by another one, and when.

Owns the classes, and the wait between two tries:

- *never*: it succeeded, the vehicle rejected it, it had a permit (a second dose of a bad release is a person's
  decision), the vehicle told a failure of the safety class, or one that the plan names under `retries.never`;
- *transient*: everything else that ends before a permit. The wait doubles with every try up to the plan's longest, and
  each vehicle adds a part of its own to it, so that a fleet that failed in one outage does not come back in one second.

How many tries there are at most is looked at by `admission`; what holds a rollout because of safety by `gates`.
"""

from __future__ import annotations

from orchestrator.engine.attempts import SAFETY_CLASS
from orchestrator.engine.wording import instant
from orchestrator.model.attempt import AttemptState, Try
from orchestrator.model.ids import FleetTime
from orchestrator.model.plan import Plan

JITTER_SHARE = 0.5
"""Most of a wait that a vehicle adds to it."""

_ANY_ENDING = "*"
_DOUBLINGS_MAX = 20
_FRACTION_BITS = 32


def settled(tried: Try, plan: Plan) -> str:
    """Why no other try follows this one, for people; empty when one may.

    Args:
        tried: The latest try, over.
        plan: Of the rollout.
    """
    if tried.state is AttemptState.SUCCEEDED:
        return f"attempt {tried.number} succeeded at {instant(tried.state_at)}"
    if tried.state is AttemptState.REJECTED:
        return f"the vehicle rejected attempt {tried.number} at {instant(tried.state_at)}: it is not offered again"
    if tried.exposed:
        return f"attempt {tried.number} had a permit and is {tried.state}: a case for a person, not for another try"
    code = tried.failure_code
    if code.startswith(SAFETY_CLASS):
        return f"attempt {tried.number} ended with {code}, a matter of safety: a case for a person, not for another try"
    named = next((pattern for pattern in plan.retries.never if _matches(pattern, code)), "")
    return f"attempt {tried.number} ended with {code}, and the plan never retries {named}" if code and named else ""


def retry_at(tried: Try, plan: Plan, draw: int) -> FleetTime:
    """When the try after `tried` may begin.

    Args:
        tried: The latest try.
        plan: Of the rollout.
        draw: The vehicle's, in this rollout: its part of the spread follows from it, another one after every try.
    """
    wait_ms = plan.limits.retry_backoff_ms * 2 ** min(tried.number - 1, _DOUBLINGS_MAX)
    wait_ms = min(wait_ms, max(plan.retries.longest_ms, plan.limits.retry_backoff_ms))
    # Draws of a wave lie close together at the top; their lowest bits do not.
    fraction = draw * (2 * tried.number + 1) % 2**_FRACTION_BITS / 2**_FRACTION_BITS
    return FleetTime(tried.state_at + wait_ms + int(wait_ms * JITTER_SHARE * fraction))


def _matches(pattern: str, code: str) -> bool:
    if pattern.endswith(_ANY_ENDING):
        return code.startswith(pattern.removesuffix(_ANY_ENDING))
    return code == pattern
