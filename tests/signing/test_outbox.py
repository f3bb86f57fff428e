"""The outbox of a vehicle: every number means one event, for ever, and none is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from outrider.v1 import vehicle_pb2

from signing.outbox import Outbox

FLEET_MS = 1_900_000_000_123


def an_outbox(memory: dict[str, Any] | None = None, *, events: int = 0) -> Outbox:
    outbox = Outbox({} if memory is None else memory, lambda: FLEET_MS)
    for number in range(events):
        outbox.tell("attempt-1", "DEFERRED", f"cause_{number}")
    return outbox


def numbers(outbox: Outbox) -> list[int]:
    return [event.number for event in outbox.told()["events"]]


def test_a_fresh_outbox_has_nothing_to_tell():
    """A poll of a new vehicle names its outbox all the same."""
    told = an_outbox().told()
    assert (told["events"], told["oldest_number"]) == ([], 0)
    assert len(told["outbox_id"]) == 32


def test_events_are_numbered_from_one_with_what_happened():
    """What is told is what the wire asks for."""
    outbox = an_outbox(events=1)
    (event,) = outbox.told()["events"]
    assert (event.number, event.attempt_id, event.failure_code) == (1, "attempt-1", "cause_0")
    assert event.kind == vehicle_pb2.EVENT_KIND_DEFERRED
    assert event.event_time.seconds == FLEET_MS // 1000


def test_at_most_64_go_with_a_poll_the_oldest_first():
    """More than that is refused as malformed, and would be for ever."""
    outbox = an_outbox(events=70)
    assert numbers(outbox) == list(range(1, 65))
    outbox.acknowledge(64)
    assert numbers(outbox) == list(range(65, 71))
    assert outbox.told()["oldest_number"] == 65
    assert len(outbox) == 6


@pytest.mark.parametrize("late", [0, 1, 2])
def test_a_late_acknowledgement_changes_nothing(late: int):
    """Answers are repeated and overtaken."""
    outbox = an_outbox(events=4)
    outbox.acknowledge(2)
    outbox.acknowledge(late)
    assert numbers(outbox) == [3, 4]


def test_numbers_go_on_when_all_is_acknowledged_and_after_a_restart():
    """A number that came back would be taken for the old event and ignored."""
    memory: dict[str, Any] = {}
    outbox = an_outbox(memory, events=2)
    outbox.acknowledge(2)
    restarted = an_outbox(json.loads(json.dumps(memory)), events=1)
    assert numbers(restarted) == [3]
    assert restarted.told()["outbox_id"] == outbox.told()["outbox_id"]


def test_a_number_that_was_never_given_begins_a_fresh_outbox():
    """The memory is an old one, restored: what it keeps goes along, numbered anew, so that it counts."""
    outbox = an_outbox(events=3)
    before = outbox.told()["outbox_id"]
    outbox.acknowledge(1)
    outbox.acknowledge(9)
    assert outbox.told()["outbox_id"] != before
    assert numbers(outbox) == [1, 2]
    outbox.tell("attempt-1", "DOWNLOAD_STARTED")
    assert numbers(outbox) == [1, 2, 3]
