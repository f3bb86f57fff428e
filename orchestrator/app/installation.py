"""Where things lie in a data folder, and what a supervisor tells its children."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from signing.errors import ImageStoreError
from signing.files import write_atomically
from signing.image_store import ImageStore, open_store

PORT_NAMES = ("enrollment", "vehicles", "operators", "web", "images", "director")
PRIVATE = 0o600
"""Mode of what is written here: the store's address may hold its password."""


class InstallationError(Exception):
    """The data folder cannot be served; the message says the remedy."""


@dataclass(frozen=True, slots=True)
class Installation:
    """A data folder made by `outrider keys init`."""

    data: Path

    @property
    def authorities(self) -> Path:
        """X.509 authorities: server, vehicle, operator."""
        return self.data / "authorities"

    @property
    def director_keys(self) -> Path:
        """The Director's online keys: read by the signer process only."""
        return self.data / "keys" / "director"

    @property
    def director_metadata(self) -> Path:
        """The Director's root files."""
        return self.data / "director" / "metadata"

    def images(self, setting: str) -> ImageStore:
        """Where images lie, as the setting `images` says.

        Raises:
            InstallationError: it names what cannot be used here.
        """
        try:
            return open_store(setting, self.image_repository / "targets")
        except ImageStoreError as exc:
            raise InstallationError(str(exc)) from exc

    @property
    def pending(self) -> Path:
        """Changes of keys and lists that wait for signatures."""
        return self.data / "pending"

    @property
    def image_repository(self) -> Path:
        """The Image repository's folder; its keys are not needed here."""
        return self.data / "image-repo"

    @property
    def store(self) -> Path:
        """The embedded store's folder."""
        return self.data / "store"

    @property
    def ledger(self) -> Path:
        """The ledger's file, where no URL names a database."""
        return self.data / "ledger.sqlite3"

    @property
    def ledger_key(self) -> Path:
        """The key that signs the ledger's heads."""
        return self.data / "keys" / "ledger" / "head.pem"

    @property
    def ledger_head(self) -> Path:
        """The newest signed head, to be copied elsewhere."""
        return self.data / "ledger-head.json"

    def ledger_at(self, url: str) -> Path | str:
        """Where the ledger is: at the URL of the setting, or in its file when that is empty."""
        return url or self.ledger

    def offline_keys(self) -> list[Path]:
        """Keys that no running service needs, and that still lie here."""
        keys = self.data / "keys"
        return sorted([*keys.glob("*/root-*.pem"), *keys.glob("image/targets*.pem"), *keys.glob("image/attest*.pem")])

    @property
    def run(self) -> Path:
        """What lives only as long as a run."""
        return self.data / "run"

    @property
    def restoring(self) -> Path:
        """Where a restore works; it stays if that does not come to its end."""
        return self.data / ".restore"

    @property
    def metrics(self) -> Path:
        """Samples of the workers."""
        return self.run / "metrics"

    @property
    def endpoints(self) -> Path:
        """Where the ports are told."""
        return self.data / "endpoints.json"

    def check(self) -> None:
        """See that the folder was made, to its end.

        Raises:
            InstallationError: it was not.
        """
        if self.restoring.exists():
            raise InstallationError(
                f"a restore into {self.data} goes on, or did not come to its end: wait for it, or empty the folder and "
                "restore again"
            )
        for path in (self.authorities, self.director_metadata, self.image_repository):
            if not path.is_dir():
                raise InstallationError(f"{path} is missing: make the data folder with `outrider keys init --data DIR`")


@dataclass(frozen=True, slots=True)
class Ports:
    """One port a server."""

    enrollment: int
    vehicles: int
    operators: int
    web: int
    images: int
    director: int


@dataclass(frozen=True, slots=True)
class Orders:
    """What a supervisor tells a worker, by a file in the run folder."""

    settings: Mapping[str, Any]
    """Every setting as resolved by the supervisor."""
    ports: Ports
    store_url: str
    signer_socket: str

    def save(self, path: Path) -> None:
        """Write for the children."""
        write_atomically(path, json.dumps(asdict(self)).encode(), mode=PRIVATE)

    @staticmethod
    def load(path: Path) -> Orders:
        """Read in a child."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return Orders(
            settings=document["settings"],
            ports=Ports(**document["ports"]),
            store_url=document["store_url"],
            signer_socket=document["signer_socket"],
        )


def clear_sockets(orders: Path) -> None:
    """Remove the folder of sockets that an earlier run's orders name, which stays when its supervisor is killed.

    Whatever else lies there keeps it.
    """
    try:
        left = Path(Orders.load(orders).signer_socket)
    except (OSError, ValueError, KeyError, TypeError):
        return
    with contextlib.suppress(OSError):
        left.unlink(missing_ok=True)
        left.parent.rmdir()


@contextlib.contextmanager
def held_ports(host: str, wanted: Ports, endpoints: Path) -> Iterator[Ports]:
    """Real ports for those wanted: 0 takes the one of the last run if it is free, so that vehicles find us again,
    else any free one. Until this is left our own servers can listen on them and nobody else gets one, as an outgoing
    connection would in the second before a worker listens, or until the next one does.

    Raises:
        InstallationError: a port that was asked for is taken.
    """
    last = last_ports(endpoints)
    chosen: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        for name in PORT_NAMES:
            asked, remembered = getattr(wanted, name), last.get(name, 0)
            if asked and not is_free(host, asked):
                raise InstallationError(
                    f"port {asked} ({name}) on {host} is taken: stop what listens there, or set port_{name}"
                )
            known = remembered not in chosen.values() and is_free(host, remembered)
            holder = held.enter_context(_hold(host, asked or (remembered if known else 0)))
            chosen[name] = int(holder.getsockname()[1])
        if sys.platform != "linux":
            # Elsewhere nobody may listen beside a socket that is bound to the same address.
            held.close()
        yield Ports(**chosen)


def last_ports(endpoints: Path) -> dict[str, int]:
    """Ports that the last run told, by name, an earlier build's fewer; empty when there was none."""
    try:
        document = json.loads(endpoints.read_text(encoding="utf-8"))
        told = [name for name in PORT_NAMES if name in document]
        ports = {name: int(str(document[name]).rpartition(":")[2]) for name in told}
    except (OSError, ValueError, TypeError):
        return {}
    return {name: port for name, port in ports.items() if 0 < port < 65_536}


def is_free(host: str, port: int) -> bool:
    """Whether nothing listens on a port."""
    try:
        _hold(host, port).close()
    except OSError:
        return False
    return True


def _hold(host: str, port: int) -> socket.socket:
    """A socket that is bound to a port, any free one for 0, and does not listen.

    Who binds with SO_REUSEADDR, as our servers do, may listen beside it. The system gives the port to nobody.

    Raises:
        OSError: the port is taken, or the host is not this machine.
    """
    holder = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Before for a port with a number, whose last connections may linger; after where the system chooses one, which
        # could be another holder's.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(port != 0))
        holder.bind((host, port))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except BaseException:
        holder.close()
        raise
    return holder


def write_endpoints(installation: Installation, host: str, ports: Ports, trust_domain: str, scale: float = 1.0) -> None:
    """Tell where the servers listen, and how many seconds of fleet time a second has."""
    document = {
        "pid": os.getpid(),
        "enrollment": f"{host}:{ports.enrollment}",
        "vehicles": f"{host}:{ports.vehicles}",
        "operators": f"{host}:{ports.operators}",
        "web": f"http://{host}:{ports.web}",
        "images": f"https://{host}:{ports.images}",
        "director": f"https://{host}:{ports.director}",
        "trust_domain": trust_domain,
        "scale": scale,
    }
    write_atomically(installation.endpoints, f"{json.dumps(document, indent=2)}\n".encode(), mode=PRIVATE)
