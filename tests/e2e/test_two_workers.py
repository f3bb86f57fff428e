"""Two workers, real gRPC: what a vehicle tells again, out of order and weeks late, and more than is allowed at once."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from outrider.v1 import rollout_pb2

from orchestrator.model.attempt import AttemptState
from orchestrator.model.tally import total
from orchestrator.store.redis import EmbeddedServer
from orchestrator.store.redis.keys import FLEET_TAG, key
from tests.e2e.conftest import RELEASE
from tests.e2e.evidence import (
    Happened,
    attempts_only,
    check_blast_budget,
    check_in_flight,
    check_one_live_attempt,
    counted,
    happened,
    permits_given,
    slots_held,
    store_socket,
)
from tests.e2e.load import Load
from tests.processes import CALL_TIMEOUT_S, Installation, an_installation, eventually
from tests.vehicles import AVehicle, enrolled, offered

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]

PLAN = """\
release: {release}
holdout: 0%
target: {{region: [{region}]}}
waves: [{{name: all}}]
limits: {{in_flight: {in_flight}, blast_budget: {budget}, starts_per_minute: 100}}
"""
WIDE = 400
"""A blast budget that lets ten vehicles install before any was heard of."""
SCALE = 600
WEEKS_MS = 21 * 24 * 3600 * 1000


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation with two workers; a release is published."""
    with an_installation(tmp_path_factory.mktemp("two"), workers=2) as running:
        running.publish(RELEASE, release_counter=2)
        yield running


def vehicles_in(house: Installation, region: str, count: int) -> Sequence[AVehicle]:
    """Enrolled vehicles, with their first manifests handed in; some are connected to one worker, some to the other."""
    vehicles = enrolled(house, *(AVehicle(f"{region}-{n}", region=region) for n in range(count)))
    for vehicle in vehicles:
        vehicle.check_in()
        vehicle.attest()

    def spread() -> bool:
        for channel in house.channels:
            channel.close()
        house.channels.clear()
        for vehicle in vehicles:
            vehicle.connect(house)
            vehicle.check_in()
        return all(connections(house).values())

    eventually(spread, what="both workers have some of them")
    return vehicles


def connections(house: Installation) -> dict[int, int]:
    """How many connections of vehicles each worker has, by process id."""
    port = int(house.endpoints["vehicles"].rpartition(":")[2])
    # gRPC listens by sockets of IPv6 for IPv4 as well.
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()]
    ours = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == "01"}
    return {pid: len(ours & sockets(pid)) for pid in house.workers()}


def sockets(pid: int) -> set[str]:
    """What a process has open, by the system's names."""
    found = set()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(each))
    return found


def start(house: Installation, region: str, *, in_flight: int = 100, budget: int = WIDE) -> None:
    """A running rollout over a region, of the same name."""
    plan = PLAN.format(release=RELEASE, region=region, in_flight=in_flight, budget=budget)
    request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id=region, reason="test")
    house.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)


def at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Make calls, each on a thread of its own, and have all of them answered."""
    with ThreadPoolExecutor(len(calls)) as threads:
        for call in [threads.submit(call) for call in calls]:
            call.result()


@pytest.mark.fault("F2")
def test_words_that_are_told_again_out_of_order_and_weeks_late_count_once(tmp_path: Path) -> None:
    """Cars come out of a garage after three weeks and repeat themselves: what is counted is what they did, once."""
    dice = random.Random(7)
    with an_installation(tmp_path, workers=2, scale=SCALE) as house:
        house.publish(RELEASE, release_counter=2)
        cars = vehicles_in(house, "late", 9)
        start(house, "late")
        attempts, images = {}, {}
        for car in cars:
            car.provision(house, tmp_path / car.vehicle_id)
            attempts[car.vehicle_id] = offered(car).attempt_id
            images[car.vehicle_id] = car.verify().images
            tell(house, car, attempts[car.vehicle_id], ("DOWNLOAD_STARTED", "DOWNLOAD_FINISHED"), dice)
            assert car.authorize(attempts[car.vehicle_id]).WhichOneof("answer") == "permit"
        assert states(house, "late") == {"permitted": 9}

        said_at = cars[0].fleet_time
        let_weeks_pass(house)
        eventually(lambda: states(house, "late") == {"timed_out": 9}, timeout_s=90, what="all are given up")
        for _ in range(2):
            for car, end in zip(cars, ("FAILED", "ROLLED_BACK", "VERIFY_STARTED") * 3, strict=True):
                tell(house, car, attempts[car.vehicle_id], ("INSTALL_STARTED", "REBOOT_STARTED", end), dice, at=said_at)
                if end == "VERIFY_STARTED":
                    car.install(images[car.vehicle_id])
                    manifest = car.manifest()
                    at_once([partial(each.submit, manifest) for each in both_ways(house, car) for _ in range(2)])
                # And once more out of a fresh outbox, as an agent does that lost its memory.
                car.outbox_id, car.next_event = f"{car.outbox_id}-again", 1
            assert states(house, "late") == {"failed": 3, "rolled_back": 3, "succeeded": 3}
        assert cars[0].fleet_time - said_at > timedelta(weeks=3)
        assert corrections(house, "late") == sorted(attempts.values()), "each once"


def tell(
    house: Installation,
    car: AVehicle,
    attempt_id: str,
    kinds: Sequence[str],
    dice: random.Random,
    at: datetime | None = None,
) -> None:
    """Tell these events: every run of them twice, in any order and at once, over several connections."""
    events = [car.event(attempt_id, kind, "flash_error" * (kind == "FAILED")) for kind in kinds]
    for event in events:
        if at is not None:
            event.event_time.FromDatetime(at)
    runs = [events[begin:end] for begin in range(len(events)) for end in range(begin + 1, len(events) + 1)] * 2
    dice.shuffle(runs)
    ways = both_ways(house, car)
    at_once([partial(ways[number % len(ways)].check_in, *run) for number, run in enumerate(runs)])
    assert car.check_in(*events).acknowledged_number == events[-1].number


def both_ways(house: Installation, car: AVehicle) -> Sequence[AVehicle]:
    """The same vehicle over connections of their own, so many that both workers have one of them; `car` is the last."""
    ways = []
    for _ in range(8):
        car.connect(house)
        ways.append(copy(car))
        car.check_in()
    return ways


def let_weeks_pass(house: Installation) -> None:
    """Set fleet time ahead by three weeks, in which nobody was there."""
    house.terminate()
    server = EmbeddedServer(house.data / "store")
    server.start()
    try:
        with redis.Redis(unix_socket_path=store_socket(house)) as client:
            client.hincrby(key(FLEET_TAG, "clock"), "origin", WEEKS_MS)
    finally:
        server.stop()
    house.start()


def states(house: Installation, rollout_id: str) -> Mapping[str, int]:
    """Attempts by state: as counted, as counted anew, and as the ledger replays them."""
    counters, recount = counted(house, rollout_id)
    assert counters == recount
    tally = total(counters.values())
    found = {state.value: tally.state(state) for state in AttemptState if tally.state(state)}
    told = eventually(lambda: agreeing(house, rollout_id, found), what="the ledger has caught up")
    assert told["permitted"] == tally.exposed
    return found


def agreeing(house: Installation, rollout_id: str, found: Mapping[str, int]) -> Mapping[str, Any]:
    told: Mapping[str, Any] = house.must("ledger", "outcomes", rollout_id)
    assert told["states"] == found
    return told


def corrections(house: Installation, rollout_id: str) -> list[str]:
    """Attempts that a late word corrected, each as often as that."""
    return sorted(entry.attempt_id for entry in happened(house, rollout_id) if entry.kind == "attempt_corrected")


@pytest.mark.fault("F7")
def test_of_twice_as_many_as_may_be_in_flight_that_ask_both_workers_at_once_no_more_are_let_in(
    house: Installation,
) -> None:
    """Each worker sees half of the rush: the limit is the store's, and holds at every moment."""
    most = 6
    cars = vehicles_in(house, "rush", 2 * most)
    start(house, "rush", in_flight=most)
    eventually(lambda: rush(cars), what="the first are let in")
    assert len(rush(cars)) == slots_held(house, "rush") == most
    entries = eventually(lambda: recorded(house, "rush", AttemptState.OFFERED, most), what="the ledger has them")
    check_in_flight(entries, replace(Load(), in_flight={"rush": most}, in_flight_in_all=most))
    check_one_live_attempt(entries)


@pytest.mark.fault("F7")
def test_of_twice_as_many_as_may_be_lost_that_ask_both_workers_at_once_no_more_may_install(house: Installation) -> None:
    """The blast budget is spent once, whichever worker is asked, and whoever was let in meanwhile waits."""
    budget = 4
    cars = vehicles_in(house, "blast", 2 * budget)
    start(house, "blast", budget=budget)
    eventually(lambda: rush(cars), what="the first are let in")
    permitted: set[str] = set()
    for _ in range(3):
        let_in = rush(cars)
        assert len(let_in.keys() - permitted) <= budget, "nor may more have what they would install"
        download(let_in)
        permitted |= ask(let_in)
    assert len(permitted) == permits_given(house, "blast") == budget
    assert let_in.keys() - permitted, "somebody was refused"
    entries = eventually(lambda: recorded(house, "blast", AttemptState.PERMITTED, budget), what="the ledger has them")
    check_blast_budget(entries, replace(Load(), blast_budget=budget))


@pytest.mark.fault("F7")
def test_abort_in_the_middle_of_a_rush_on_both_workers_ends_grants_and_permits(house: Installation) -> None:
    """Who asks after the abort was answered gets nothing new; who had a permit may hear of it again."""
    cars = vehicles_in(house, "halt", 10)
    start(house, "halt", in_flight=8)
    eventually(lambda: len(rush(cars)) == 8, what="eight are let in")
    waiting = rush(cars)
    download(waiting)
    abort = rollout_pb2.AbortRolloutRequest(name="rollouts/halt", reason="enough")
    with ThreadPoolExecutor(1) as person:
        aborted = person.submit(house.api().rollouts.AbortRollout, abort, timeout=CALL_TIMEOUT_S)
        had = ask(dict(list(waiting.items())[:4]))
        aborted.result()
    given = permits_given(house, "halt")
    assert len(had) == given
    assert ask(waiting) <= had
    assert rush(cars).keys() <= waiting.keys(), "nobody begins"
    eventually(lambda: rush(cars).keys() <= had, what="who has no permit is told to stop")
    assert permits_given(house, "halt") == given


def rush(cars: Sequence[AVehicle]) -> Mapping[str, tuple[AVehicle, str]]:
    """All of them poll at once, twice; those that are told to install, with their attempts."""
    told: dict[str, tuple[AVehicle, str]] = {}

    def poll(car: AVehicle) -> None:
        directive = car.check_in().directive
        if directive.WhichOneof("kind") == "install":
            told[car.vehicle_id] = car, directive.install.attempt_id

    at_once([partial(poll, car) for car in cars] * 2)
    return told


def download(waiting: Mapping[str, tuple[AVehicle, str]]) -> None:
    """All of them have what they would install."""
    at_once([partial(car.check_in, car.event(attempt, "DOWNLOAD_FINISHED")) for car, attempt in waiting.values()])


def ask(waiting: Mapping[str, tuple[AVehicle, str]]) -> set[str]:
    """All of them ask for a permit at once, twice; those that have one."""
    permitted: set[str] = set()

    def ask_one(car: AVehicle, attempt_id: str) -> None:
        if car.authorize(attempt_id).WhichOneof("answer") == "permit":
            permitted.add(car.vehicle_id)

    at_once([partial(ask_one, *each) for each in waiting.values()] * 2)
    return permitted


def recorded(house: Installation, rollout_id: str, state: AttemptState, at_least: int) -> Sequence[Happened]:
    """What the ledger has of a rollout, once so many attempts came into a state."""
    entries = happened(house, rollout_id)
    assert sum(entry.to is state for entry in attempts_only(entries)) >= at_least
    return entries
