"""The service as those who run it see it: health, reflection, metrics, signals, and parts that die."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Iterator

import grpc
import pytest
import redis
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from outrider.v1 import rollout_pb2

from signing.pki import key_pem
from tests.e2e.evidence import store_socket
from tests.processes import CALL_TIMEOUT_S, Installation, an_installation, eventually, is_alive, read_identity, run_cli
from tests.vehicles import AVehicle, enrolled, refusal

SERVICES = {
    "enrollment": {"outrider.v1.EnrollmentService"},
    "vehicles": {"outrider.v1.VehicleService"},
    "operators": {
        "outrider.v1.FleetService",
        "outrider.v1.ReleaseService",
        "outrider.v1.RolloutService",
        "outrider.v1.CaseService",
        "outrider.v1.LedgerService",
    },
}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation of its own: these tests kill its parts."""
    with an_installation(tmp_path_factory.mktemp("house")) as running:
        yield running


def channels(installation: Installation) -> dict[str, grpc.Channel]:
    """A channel to each port by somebody who may use it."""
    name = f"health-{os.urandom(4).hex()}"
    (vehicle,) = enrolled(installation, AVehicle(name))
    admin = read_identity(installation.data / "operators" / "admin")
    return {
        "enrollment": installation.channel("enrollment"),
        "vehicles": installation.channel("vehicles", key_pem(vehicle.tls_key), vehicle.certificate_chain),
        "operators": installation.channel("operators", *admin),
    }


def test_every_port_says_that_it_serves_and_to_operators_what(installation: Installation) -> None:
    """Load balancers ask for health, people who operate ask what there is; nobody else needs to."""
    for port, channel in channels(installation).items():
        for service in ("", *SERVICES[port]):
            answer = health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(service=service), timeout=CALL_TIMEOUT_S
            )
            assert answer.status == health_pb2.HealthCheckResponse.SERVING, (port, service)
        if port == "operators":
            assert {name for name in described(channel) if name.startswith("outrider.")} == SERVICES[port]
        else:
            with pytest.raises(grpc.RpcError) as error:
                described(channel)
            assert refusal(error.value).code is grpc.StatusCode.UNIMPLEMENTED


def described(channel: grpc.Channel) -> set[str]:
    """The services that a port says it has."""
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    (listed,) = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([ask]), timeout=CALL_TIMEOUT_S
    )
    return {item.name for item in listed.list_services_response.service}


def test_web_port_tells_alive_ready_and_nothing_else(installation: Installation) -> None:
    """Probes and scrapes are for machines inside; a path that nobody wrote must not answer."""
    assert installation.get("/healthz")[0] == 200
    status, text = installation.get("/readyz")
    assert (status, json.loads(text)["status"]) == (200, "ready")
    assert installation.get("/../data/authorities/server.key")[0] == 404


def test_metrics_have_our_prefix_and_never_a_vehicle(installation: Installation) -> None:
    """A label per vehicle would fill Prometheus and tell where people drive."""
    (vehicle,) = enrolled(installation, AVehicle("metrics-vehicle"))
    vehicle.check_in()
    with pytest.raises(grpc.RpcError):
        vehicle.submit(b"nonsense")
    metrics = installation.metrics()
    ids = re.compile(r"metrics-vehicle|health-")
    for name, labels in metrics:
        assert not any(ids.search(value) for _, value in labels), (name, labels)
        assert not {"vehicle", "vehicle_id", "vin"} & {label for label, _ in labels}, (name, labels)
    ours = {name for name, _ in metrics if not name.startswith(("python_", "process_"))}
    assert {name for name in ours if not name.startswith("outrider_")} == set()
    handled = {"service": "outrider.v1.VehicleService", "method": "CheckIn", "code": "OK"}
    assert installation.metric("outrider_grpc_server_handled_total", **handled) >= 1
    assert installation.metric("outrider_vehicles_registered") >= 1


def test_logs_are_json_and_hold_no_token_and_no_key(installation: Installation) -> None:
    """Logs travel far: what opens a door must not be in them."""
    text = installation.log_text()
    lines = text.splitlines()
    assert lines
    assert all(isinstance(json.loads(line), dict) for line in lines)
    assert "PRIVATE KEY" not in text
    assert installation.log_events("serving")


def test_second_server_on_one_data_folder_fails_with_one_line(house: Installation) -> None:
    """Two supervisors on one store would each think that they are the one."""
    before = house.endpoints
    outcome = run_cli("serve", "--data", house.data)
    assert outcome.exit_code == 4
    said = [line for line in outcome.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1, outcome.stderr
    assert said[0].startswith("error: ")
    assert str(house.process.pid if house.process else 0) in said[0]
    assert house.endpoints == before
    assert house.get("/readyz")[0] == 200


def test_killed_worker_signer_and_store_come_back(house: Installation) -> None:
    """Whatever dies is started again, on the same ports, and vehicles never notice more than a pause."""
    (vehicle,) = enrolled(house, AVehicle("house-1"))
    vehicle.check_in()
    before = house.endpoints

    def served() -> bool:
        try:
            return vehicle.check_in().HasField("fleet_time")
        except grpc.RpcError:
            return False

    worker = house.kill_worker()
    eventually(served, timeout_s=60.0, what="another worker answers")
    assert worker not in house.workers()

    store = house.store_pid
    house.kill_store()
    eventually(served, timeout_s=20, what="another store answers")
    eventually(lambda: house.store_pid != store, what="it is told which one runs now")
    eventually(lambda: house.get("/readyz")[0] == 200)

    signer = next(pid for pid in house.children() if pid not in (*house.workers(), house.store_pid))
    os.kill(signer, signal.SIGKILL)
    newcomer = enrolled(house, AVehicle("house-2"))[0]

    def signed() -> bool:
        try:
            return bool(newcomer.check_in().metadata)
        except grpc.RpcError:
            return False

    eventually(signed, what="another signer signs")
    assert house.endpoints == before


@pytest.mark.fault("F17")
def test_lost_functions_are_said_by_readiness_and_another_builds_are_left_to_it(house: Installation) -> None:
    """A worker that is started after an upgrade would take the store from the supervisor that it belongs to."""
    another = "#!lua name=outrider_v1\nredis.register_function('outrider_v1_old', function() return 1 end)"
    with redis.Redis(unix_socket_path=store_socket(house)) as store:
        store.function_flush()
        store.function_load(another)
        status, text = house.get("/readyz")
        assert status == 503
        assert "lost its function library" in text
        house.kill_worker()
        eventually(
            lambda: "functions of another build (outrider_v1" in house.log_text(), what="its successor is refused"
        )
        assert len(store.function_list()) == 1
        store.function_flush()
    eventually(lambda: house.get("/readyz")[0] == 200, timeout_s=60.0, what="the next one brings them back")


def test_killed_supervisor_leaves_nothing_but_the_store_and_the_next_one_goes_on(house: Installation) -> None:
    """Kill -9 must cost nothing that was acknowledged, and no rollout may have to be resumed by hand."""
    house.publish("1.0.0", release_counter=1)
    (vehicle,) = enrolled(house, AVehicle("house-3", region="house"))
    vehicle.check_in()
    plan = "release: 1.0.0\nholdout: 0%\ntarget: {region: [house]}\nwaves: [{name: all}]\n"
    request = rollout_pb2.CreateRolloutRequest(plan=plan, rollout_id="house", reason="test")
    house.api().rollouts.CreateRollout(request, timeout=CALL_TIMEOUT_S)
    before, store = house.endpoints, house.store_pid
    house.kill()
    assert is_alive(store), "the store lives on"
    house.start()
    assert house.store_pid == store, "and was adopted"
    assert {name: house.endpoints[name] for name in before if name != "pid"} == {
        name: before[name] for name in before if name != "pid"
    }, "vehicles find us where we were"
    answer = house.api().rollouts.GetRollout(
        rollout_pb2.GetRolloutRequest(name="rollouts/house"), timeout=CALL_TIMEOUT_S
    )
    assert answer.status == rollout_pb2.ROLLOUT_STATUS_RUNNING


def test_sigterm_drains_and_ends_with_0_and_nothing_is_left(house: Installation) -> None:
    """The way every deployment ends a service: calls finish, the store is closed, the exit code is clean."""
    children, store = house.children(), house.store_pid
    assert len(children) >= 2
    assert house.terminate() == 0
    assert not any(map(is_alive, (*children, store)))
    assert not (house.data / "store" / "store.json").exists()
    assert house.log_events("drained")
    house.start()
    (vehicle,) = enrolled(house, AVehicle("house-4"))
    assert vehicle.check_in().HasField("fleet_time"), "and it starts again on the same data"
