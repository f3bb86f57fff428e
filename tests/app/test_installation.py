"""Ports, addresses and orders: told by files that are whole or old, never torn."""

from __future__ import annotations

import contextlib
import json
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.app.installation import (
    PORT_NAMES,
    Installation,
    InstallationError,
    Orders,
    Ports,
    clear_sockets,
    held_ports,
    is_free,
    last_ports,
    write_endpoints,
)
from tests.ports import HOST, free_port

ANY = Ports(enrollment=0, vehicles=0, operators=0, web=0, images=0, director=0)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def told(folder: Path, ports: Ports) -> Path:
    """An endpoints.json of an earlier run."""
    installation = Installation(folder)
    write_endpoints(installation, HOST, ports, "test.outrider.invalid")
    return installation.endpoints


def choose_ports(wanted: Ports, endpoints: Path) -> Ports:
    """Those that a start would choose, let go of again."""
    with held_ports(HOST, wanted, endpoints) as ports:
        return ports


def as_dict(ports: Ports) -> dict[str, int]:
    return {name: getattr(ports, name) for name in PORT_NAMES}


def test_free_ports_are_chosen_each_its_own(tmp_path: Path) -> None:
    """Six servers, six ports, nothing to configure; also where the system would give a number again at once."""
    for _ in range(5_000):
        chosen = as_dict(choose_ports(ANY, tmp_path / "endpoints.json"))
        assert len(set(chosen.values())) == 6
    assert all(is_free(HOST, port) for port in chosen.values())


def test_chosen_port_is_held_for_our_servers_until_they_listen_and_whenever_they_do_not(tmp_path: Path) -> None:
    """A worker listens a second later, or starts anew: a connection that somebody opened meanwhile took its port."""
    with held_ports(HOST, ANY, tmp_path / "endpoints.json") as ports:
        for _ in range(2):
            for shared in (False, True):
                with contextlib.ExitStack() as servers:
                    for _ in range(1 + shared):
                        server = servers.enter_context(socket.socket())
                        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
                        server.bind((HOST, ports.vehicles))
                        server.listen()
                with socket.socket() as other, pytest.raises(OSError, match="in use"):
                    other.bind((HOST, ports.vehicles))
    with socket.socket() as other:
        other.bind((HOST, ports.vehicles))


def test_endpoints_tell_how_fast_fleet_time_runs(tmp_path: Path) -> None:
    """A vehicle on simulated time has to know before its first call what a second is worth."""
    installation = Installation(tmp_path)
    write_endpoints(installation, HOST, choose_ports(ANY, installation.endpoints), "test.outrider.invalid", 120)
    assert json.loads(installation.endpoints.read_text())["scale"] == 120


def test_ports_of_the_last_run_are_taken_again(tmp_path: Path) -> None:
    """Vehicles keep the address they know: a restart must not move the service."""
    first = choose_ports(ANY, tmp_path / "endpoints.json")
    assert choose_ports(ANY, told(tmp_path, first)) == first


def test_remembered_port_that_is_taken_is_replaced(tmp_path: Path, taken: int) -> None:
    """Nobody asked for that number, so another is as good as none."""
    before = Ports(enrollment=taken, vehicles=free_port(), operators=0, web=0, images=0, director=0)
    chosen = choose_ports(ANY, told(tmp_path, before))
    assert chosen.enrollment not in (0, taken)
    assert chosen.vehicles == before.vehicles


def test_port_that_was_asked_for_and_is_taken_is_refused(tmp_path: Path, taken: int) -> None:
    """A number that somebody wrote down is what vehicles in the field call: no other will do."""
    wanted = Ports(enrollment=0, vehicles=taken, operators=0, web=0, images=0, director=0)
    with pytest.raises(InstallationError, match=f"port {taken} \\(vehicles\\).*set port_vehicles"):
        choose_ports(wanted, tmp_path / "endpoints.json")


OUT_OF_RANGE = json.dumps({name: f"{HOST}:{65_536 + number}" for number, name in enumerate(PORT_NAMES)})


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"vehicles": "x"}', '{"enrollment": "h:p"}', OUT_OF_RANGE])
def test_torn_or_foreign_addresses_are_forgotten(tmp_path: Path, text: str) -> None:
    """A file that a crash left behind must not keep the service down."""
    path = tmp_path / "endpoints.json"
    path.write_text(text)
    assert last_ports(path) == {}
    assert len(set(as_dict(choose_ports(ANY, path)).values())) == 6


def test_a_port_that_an_earlier_build_did_not_have_moves_no_other(tmp_path: Path) -> None:
    """An upgrade must not send every vehicle to look for the service anew."""
    path = told(tmp_path, Ports(7001, 7002, 7003, 7004, 7005, 7006))
    document = json.loads(path.read_text())
    del document["director"]
    path.write_text(json.dumps(document))
    assert last_ports(path) == {
        "enrollment": 7001, "vehicles": 7002, "operators": 7003, "web": 7004, "images": 7005
    }  # fmt: skip


def test_addresses_are_told_with_the_process_that_serves(tmp_path: Path) -> None:
    """Who finds the file must be able to tell this run from the last."""
    path = told(tmp_path, Ports(1, 2, 3, 4, 5, 6))
    document = json.loads(path.read_text())
    assert document["vehicles"] == f"{HOST}:2"
    assert document["web"] == f"http://{HOST}:4"
    assert document["images"] == f"https://{HOST}:5"
    assert document["director"] == f"https://{HOST}:6"
    assert document["pid"] > 0


def test_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    """Orders hold the store's address, which may hold its password."""
    path = tmp_path / "orders.json"
    for url in ("redis://:old@x", "redis://:new@x"):
        Orders(settings={}, ports=Ports(1, 2, 3, 4, 5, 6), store_url=url, signer_socket="/y").save(path)
    assert Orders.load(path).store_url == "redis://:new@x"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir()] == ["orders.json"]


def test_orders_come_through_to_the_children(tmp_path: Path) -> None:
    """A worker must see the settings that the supervisor resolved, not resolve its own."""
    orders = Orders(settings={"poll_s": 60}, ports=Ports(1, 2, 3, 4, 5, 6), store_url="unix:///x", signer_socket="/y")
    orders.save(tmp_path / "orders.json")
    assert Orders.load(tmp_path / "orders.json") == orders


def test_sockets_of_a_killed_supervisor_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    """Each kill -9 would leave a folder behind; one that somebody else has put a file into is not ours to remove."""
    orders = tmp_path / "orders.json"
    clear_sockets(orders)
    for kept in (False, True):
        left = tmp_path / f"outrider-{kept}"
        left.mkdir()
        socket_path = left / "signer"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(socket_path))
        if kept:
            (left / "other").touch()
        Orders(settings={}, ports=ANY, store_url="unix:///x", signer_socket=str(socket_path)).save(orders)
        clear_sockets(orders)
        assert left.exists() == kept
        assert not socket_path.exists()
        clear_sockets(orders)
    orders.write_text("{}")
    clear_sockets(orders)


def test_folder_that_was_never_made_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """The first mistake of every newcomer."""
    with pytest.raises(InstallationError, match="outrider keys init"):
        Installation(tmp_path).check()
