"""How values are written for people: status words with a mark and a colour, times with their zone, safe text.

Owns that colour never stands alone (every status is a word, and a mark precedes it) and that nothing that came over
the wire can steer the terminal. Leaves layout to the views.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.attempt_pb2 import AttemptState
from outrider.v1.fleet_pb2 import Vehicle
from outrider.v1.rollout_pb2 import RegionPhase, RegionProgress, Rollout, RolloutStatus, VerdictKind
from rich.text import Text

from orchestrator.cli import durations

GREEN, AMBER, RED, BLUE, DIM = "green", "yellow", "bold red", "cyan", "dim"
NONE = "–"
"""Stands where there is no value."""

DRAFTS = ("draft", "approved")
"""Statuses of a rollout that was never started."""
STOPPED = ("aborted", "superseded")
"""Statuses of a rollout that ended before it was through."""

STYLES: Mapping[str, tuple[str, str]] = {
    "running": ("▶", GREEN),
    "rolling": ("▶", GREEN),
    "completed": ("✓", GREEN),
    "done": ("✓", GREEN),
    "proceed": ("✓", GREEN),
    "succeeded": ("✓", GREEN),
    "grant": ("✓", GREEN),
    "enrolled": ("✓", GREEN),
    "settled": ("✓", GREEN),
    "approved": ("✓", GREEN),
    "pending": ("◌", AMBER),
    "draft": ("◌", AMBER),
    "superseded": ("■", DIM),
    "stopped": ("■", DIM),
    "aging": ("◷", BLUE),
    "holdout": ("◷", BLUE),
    "paused": ("Ⅱ", AMBER),
    "held": ("▲", AMBER),
    "hold": ("▲", AMBER),
    "deferred": ("Ⅱ", AMBER),
    "open": ("▲", AMBER),
    "waiting": ("·", DIM),
    "halted": ("■", RED),
    "halt": ("■", RED),
    "aborted": ("■", RED),
    "failed": ("✗", RED),
    "rolled_back": ("✗", RED),
    "timed_out": ("✗", RED),
    "silent": ("✗", RED),
    "rejected": ("✗", RED),
    "revoked": ("✗", RED),
    "expired": ("✗", RED),
    "due": ("▲", AMBER),
    "ok": ("✓", GREEN),
    "quarantined": ("✗", AMBER),
    "critical": ("✗", RED),
    "warning": ("▲", AMBER),
    "safety": ("✗", RED),
}
"""By word: mark and style. A word that is not here stands plain."""


def clean(text: str) -> str:
    """Text without control characters: what a vehicle or another operator wrote cannot steer this terminal."""
    return "".join(character if character.isprintable() else "�" for character in text)


def plain(text: str, style: str = "") -> Text:
    """Text as it stands, never read as markup."""
    return Text(clean(text), style=style)


def status(word: str) -> Text:
    """A status word with its mark and colour."""
    mark, style = STYLES.get(word, ("", ""))
    return Text(f"{mark} {word}".strip(), style=style)


def rollout_status(value: RolloutStatus.ValueType) -> str:
    """For example `running`."""
    return RolloutStatus.Name(value).removeprefix("ROLLOUT_STATUS_").lower()


def region_phase(value: RegionPhase.ValueType) -> str:
    """For example `rolling`."""
    return RegionPhase.Name(value).removeprefix("REGION_PHASE_").lower()


def phase_of(rollout: Rollout, region: RegionProgress) -> str:
    """The phase of a region; `waiting` while its rollout was never started, `stopped` where it ended under way."""
    standing, phase = rollout_status(rollout.status), region_phase(region.phase)
    if standing in DRAFTS:
        return "waiting"
    return "stopped" if standing in STOPPED and phase != "done" else phase


def verdict_kind(value: VerdictKind.ValueType) -> str:
    """For example `proceed`; `none yet` before the first judgement."""
    word = VerdictKind.Name(value).removeprefix("VERDICT_KIND_").lower()
    return "none yet" if word == "unspecified" else word


def attempt_state(value: AttemptState.ValueType) -> str:
    """For example `downloading`."""
    return AttemptState.Name(value).removeprefix("ATTEMPT_STATE_").lower()


def vehicle_state(vehicle: Vehicle) -> str:
    """`revoked`, `quarantined`, `enrolled`, or `waiting` for its first contact."""
    if vehicle.revoked:
        return "revoked"
    if any(not exclusion.rollout for exclusion in vehicle.exclusions):
        return "quarantined"
    return "enrolled" if vehicle.enrolled else "waiting"


def moment(timestamp: Timestamp) -> str:
    """A moment with its zone, to the second; a dash when it is not set."""
    if not timestamp.ByteSize():
        return NONE
    return f"{timestamp.ToDatetime(tzinfo=UTC):%Y-%m-%d %H:%M:%S} UTC"


def moment_of(value: datetime) -> str:
    """The same for a datetime that knows its zone."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def since(timestamp: Timestamp, now: Timestamp | None) -> str:
    """How long ago on the fleet clock, for example `3 d 4 h ago`; the moment itself when `now` is not known."""
    if not timestamp.ByteSize():
        return NONE
    if now is None or not now.ByteSize():
        return moment(timestamp)
    elapsed_s = now.seconds - timestamp.seconds
    return f"{durations.in_words(elapsed_s)} ago" if elapsed_s >= 0 else f"in {durations.in_words(-elapsed_s)}"


def count(value: float) -> str:
    """A count with its thousands apart."""
    return f"{value:,.0f}"


def number(value: float) -> str:
    """A number that decided: short, without loss of what matters."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def percent(share: float) -> str:
    """A share for people, for example `1.2 %`."""
    return f"{share * 100:.3g} %"


def of_id(name: str) -> str:
    """The id in a resource name such as `rollouts/spring`."""
    return name.rpartition("/")[2]
