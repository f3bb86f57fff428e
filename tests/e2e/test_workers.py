"""Workers of a whole installation: stuck ones are replaced, and neither age, SIGHUP nor a renewal drops a call."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from outrider.v1 import vehicle_pb2

from orchestrator.clock import MachineClock
from tests.processes import CALL_TIMEOUT_S, Installation, an_installation, eventually, process_name
from tests.vehicles import AVehicle, enrolled

pytestmark = pytest.mark.processes

STORE_DEADLINE_S = 5.0
PAUSE_S = 0.05
"""Between calls: one vehicle may not call as often as it likes."""


@contextmanager
def calling(vehicle: AVehicle) -> Iterator[list[grpc.RpcError]]:
    """A vehicle that calls without a pause; what failed."""
    over, failed = threading.Event(), list[grpc.RpcError]()
    answered = 0

    def call() -> None:
        nonlocal answered
        while not over.is_set():
            try:
                vehicle.check_in()
                answered += 1
                over.wait(PAUSE_S)
            except grpc.RpcError as error:
                failed.append(error)
                return

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield failed
    finally:
        over.set()
        thread.join()
    assert answered > 20


def test_calls_go_on_while_connections_grow_old_and_settings_and_authorities_change(tmp_path: Path) -> None:
    """A vehicle that calls all the time sees none of it: connections of two seconds, SIGHUP, renewed authorities."""
    with an_installation(tmp_path, workers=2, connection_age_s=2) as house:
        (vehicle,) = enrolled(house, AVehicle("busy-1"))
        with calling(vehicle) as failed:
            settings = house.data / "outrider.toml"
            text = settings.read_text()
            settings.write_text(
                text.replace("poll_s = 3600", "poll_s = 7200").replace("drain_s = 5.0", "drain_s = 6.0")
            )
            assert house.process is not None
            house.process.send_signal(signal.SIGHUP)
            [told] = eventually(lambda: house.log_events("settings_reloaded"), what="the settings are read anew")
            assert told["applied"] == ["poll_s"]
            assert house.log_events("settings_wait_for_restart")[0]["settings"] == ["drain_s"]
            eventually(
                lambda: len(house.log_events("certificates_renewed")) >= 3, what="both workers and the images' port"
            )
            house.must("ca", "renew", "vehicle")
            eventually(lambda: len(house.log_events("certificates_renewed")) >= 6, what="and once more")
            settings.write_text(text + "poll_s = 1\n")
            house.process.send_signal(signal.SIGHUP)
            eventually(lambda: house.log_events("settings_refused"), what="what cannot be used is refused")
        assert not failed
        vehicle.connect(house)
        assert vehicle.check_in().next_poll_after.seconds == 7200, "and what counted before counts"
        assert house.process.poll() is None


def test_every_process_runs_in_long_turns(tmp_path: Path) -> None:
    """What wakes interrupts nobody: neither gRPC's threads the worker's Python, nor the store the worker."""
    with an_installation(tmp_path, workers=2) as house:
        running = {process_name(pid): os.sched_getscheduler(pid) for pid in (*house.children(), house.store_pid)}
        assert set(running.values()) == {os.SCHED_BATCH}, running


def test_stopped_worker_is_replaced_while_the_other_serves(tmp_path: Path) -> None:
    """It holds its connections and answers none: nobody but the supervisor can tell."""
    with an_installation(tmp_path, workers=2) as house:
        stuck = house.workers()[0]
        os.kill(stuck, signal.SIGSTOP)
        eventually(lambda: replaced(house, stuck), timeout_s=60, what="another one is there")
        (vehicle,) = enrolled(house, AVehicle("after-1"))
        assert vehicle.check_in().HasField("fleet_time")
        assert house.metric("outrider_child_stuck_total") == 1


def test_worker_whose_store_stands_still_refuses_what_is_too_much_at_once_and_serves_when_it_is_back(
    tmp_path: Path,
) -> None:
    """Calls pile up behind a slow store: those beyond the limit hear at once when to come again."""
    machine = MachineClock()
    with an_installation(tmp_path) as house:
        vehicles = enrolled(house, *(AVehicle(f"herd-{number}") for number in range(100)))
        for vehicle in vehicles:
            vehicle.check_in()
        os.kill(house.store_pid, signal.SIGSTOP)
        try:
            began_s = machine.monotonic_s()
            # A connection carries few calls at once: a hundred vehicles, so that all of them are under way.
            poll = vehicle_pb2.CheckInRequest(outbox_id="herd")
            herd = [vehicle.stub.CheckIn.future(poll, timeout=CALL_TIMEOUT_S) for vehicle in vehicles for _ in range(6)]
            refused = eventually(lambda: [call for call in herd if call.done()], what="those beyond 512 are refused")
            assert machine.monotonic_s() - began_s < STORE_DEADLINE_S, "before the store could have been given up"
            for call in refused:
                assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, call.details()
            assert house.metric("outrider_refused_requests_total", reason="overloaded") >= len(refused)
        finally:
            os.kill(house.store_pid, signal.SIGCONT)
        answered = [call for call in herd if call.exception() is None]
        assert len(answered) > 400, "those that were let in are served"
        assert {call.code() for call in herd} <= {
            grpc.StatusCode.OK,
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            grpc.StatusCode.UNAVAILABLE,  # past the store's deadline
        }
        delays_s = {retry_delay_s(call) for call in refused}
        assert min(delays_s) >= 0.75
        assert len(delays_s) > len(refused) / 2, "smeared"


def retry_delay_s(call: Any) -> float:
    """What a refusal asks to wait."""
    info = error_details_pb2.RetryInfo()
    for detail in rpc_status.from_call(call).details:
        if detail.Unpack(info):
            return info.retry_delay.seconds + info.retry_delay.nanos / 1e9
    raise AssertionError("a refusal without a delay")


def replaced(house: Installation, stuck: int) -> bool:
    """Whether two workers serve that are not the one."""
    workers = house.workers()
    return len(workers) == 2 and stuck not in workers and len(house.log_events("child_ready")) >= 4
