"""A private Valkey or Redis server on a data folder: the zero-setup default store.

No TCP port: a unix socket, mode 0600, in a short directory of mode 0700. Everything that is acknowledged is in the
append-only file first. The lock on the folder is ours, not the server's: when we are killed the server lives on, and
whoever gets the lock next adopts it. Repair of a damaged file is `append_only`'s.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis import append_only
from orchestrator.store.redis.binary import find_binary
from orchestrator.store.redis.keys import FLEET_TAG, key
from orchestrator.store.redis.lock import FolderLock, take_server_lock

SOCKET_PATH_MAX = 100
"""Bytes; the system's limit is 104 to 108."""
POLL_S = 0.01
START_POLLS_MAX = 3000
"""Polls (30 s) that a server may take to open its socket; loading a long append-only file does not count."""
LOCK_POLLS_MAX = 500
STOP_S = 20.0
SIGNS_OF_DAMAGE = ("reading the append only file", "Bad file format")
"""What the server's log says of an append-only file that it will not load."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Running:
    """What `store.json` says of a running server."""

    pid: int
    run_id: str
    """Random, the server's own: tells one run of it from another."""
    socket: str
    binary: str
    dataset_id: str
    """Of the data set it holds; empty before the first orchestrator made one."""


class EmbeddedServer:
    """The server of one data folder. Not thread-safe; `start` and `stop` block.

    Args:
        folder: holds the append-only file, the lock, `store.json` and `server.log`; made if absent.
        settings: more settings of the server, by name; for tests.
    """

    def __init__(self, folder: Path, *, settings: dict[str, str] | None = None) -> None:
        self._folder = folder.absolute()
        self._settings = dict(settings or {})
        self._lock = FolderLock(self._folder)
        self._process: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._socket: Path | None = None

    @property
    def socket_path(self) -> Path:
        """Where it listens.

        Raises:
            RuntimeError: it was never started.
        """
        if self._socket is None:
            raise RuntimeError("the embedded store was not started")
        return self._socket

    @property
    def url(self) -> str:
        """Where it listens, as `RedisStore.connect` takes it; the same after a restart."""
        return f"unix://{self.socket_path}"

    @property
    def pid(self) -> int | None:
        """The server's process id; None when none was started."""
        return self._pid

    def start(self) -> None:
        """Start the server, or adopt the one that a killed owner left behind; then every call is answered.

        Also starts a server again that died.

        Raises:
            StoreRefusedError: the folder is in use, its data are damaged, or the server does not start.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        first = not self._lock.held
        if first:
            self._lock.take()
        try:
            self._adopt_or_launch()
            self._write_running()
        except BaseException:
            self._kill_own()
            # Who starts a server again keeps the folder and the address, and may try once more.
            if first:
                self._let_go()
            raise

    def alive(self) -> bool:
        """Whether the server is there, even if it hangs; does not wait for it."""
        if self._socket is None or (self._process is not None and self._process.poll() is not None):
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            # Who hangs lets nobody in once its queue is full.
            return probe.connect_ex(str(self._socket)) in (0, errno.EAGAIN)

    def wait_dead(self) -> None:
        """Block until the server is gone; at once when it is already."""
        with socket.socket(socket.AF_UNIX) as line:
            try:
                line.connect(str(self.socket_path))
                # It never speaks first, so the only thing to come is the end.
                line.recv(1)
            except OSError:
                return

    def stop(self) -> None:
        """Stop the server, remove its socket, let go of the folder. Harmless when nothing runs."""
        if self._pid is not None and self.alive():
            self._end(self._pid)
        if self._process is not None:
            self._process.wait()
        self._process = None
        self._pid = None
        if self._lock.held:
            (self._folder / "store.json").unlink(missing_ok=True)
            (self._folder / "socket").unlink(missing_ok=True)
        self._let_go()

    def check(self) -> str:
        """What is wrong with the append-only file while no server runs; empty when nothing is."""
        return append_only.check(self._folder)

    def _adopt_or_launch(self) -> None:
        """Whoever is there is adopted; whoever holds the server's lock is there in a moment, or dies."""
        for _ in range(LOCK_POLLS_MAX):
            if self._adopt():
                return
            lock = take_server_lock(self._folder)
            if lock is not None:
                with lock:
                    self._launch(lock)
                return
            time.sleep(POLL_S)
        raise StoreRefusedError(
            f"a server that was left behind still works on {self._folder} and cannot be adopted: stop the process that "
            f"`fuser {self._folder / 'server.lock'}` names, then start again"
        )

    def _adopt(self) -> bool:
        path = self._left_socket()
        if path is None:
            return False
        # The place is kept also when the server is dead: whoever knew it finds the next one there.
        if self._socket is None and _is_private(path.parent):
            self._socket = path
        if self._socket != path or not self.alive():
            return False
        # Its process is asked, no note: an owner that died while it started a server has left an older one behind.
        info = _info(path) if _await_loaded(path) else None
        if info is None:
            if not self.alive():
                return False
            raise StoreRefusedError(
                f"the store's server on {path} hangs: stop the process that `fuser {self._folder / 'server.lock'}` "
                "names, then start again"
            )
        if Path(info["folder"]) != self._folder.resolve():
            raise StoreRefusedError(f"another server than that of {self._folder} answers on {path}: stop it first")
        pid = int(info["process_id"])
        if self._pid != pid:
            self._process = None
            log.info("store_adopted", pid=pid, folder=str(self._folder))
        self._pid = pid
        return True

    def _launch(self, server_lock: BinaryIO) -> None:
        binary = find_binary()
        if self._socket is None:
            self._socket = _socket_folder() / "s"
            # Before it runs: whoever comes after us, should we die now, knows where to look.
            self._write("socket", str(self._socket))
        self._socket.unlink(missing_ok=True)
        arguments = [cell for name, value in self._server_settings().items() for cell in (f"--{name}", value)]
        with (self._folder / "server.log").open("ab") as output:
            log_start = output.tell()
            # A session of its own: an interrupt at the terminal is for the orchestrator, which drains first.
            self._process = subprocess.Popen(
                [str(binary), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(server_lock.fileno(),),
                cwd=self._folder,
            )
        self._pid = self._process.pid
        self._await_start(self._process, log_start)

    def _server_settings(self) -> dict[str, str]:
        return {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "600",
            "dir": str(self._folder),
            "databases": "1",
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-load-truncated": "no",
            "save": "",
            # A snapshot is sent as it is made, to the one who asks: no file of it, no wait for others to ask.
            "repl-diskless-sync": "yes",
            "repl-diskless-sync-delay": "0",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        } | self._settings

    def _await_start(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        for _ in range(START_POLLS_MAX):
            try:
                process.wait(timeout=POLL_S)
            except subprocess.TimeoutExpired:
                if self.alive() and _await_loaded(self.socket_path):
                    return
            else:
                break
        self._refuse_start(log_start)

    def _refuse_start(self, log_start: int) -> None:
        with (self._folder / "server.log").open("rb") as file:
            file.seek(log_start)
            lines = file.read().decode(errors="replace").splitlines()
        damage = next((line for line in lines if any(sign in line for sign in SIGNS_OF_DAMAGE)), "")
        if damage:
            what = damage.split("# ")[-1].split(". ")[0].rstrip(".")
            raise StoreRefusedError(
                f"the append-only file in {self._folder} is damaged ({what}): run `outrider store repair --data "
                f"{self._folder.parent}`, which keeps a copy and says what it cuts off"
            )
        last = lines[-1].split("# ")[-1] if lines else "it said nothing"
        raise StoreRefusedError(f"the store's server did not start: {last} (see {self._folder / 'server.log'})")

    def _write_running(self) -> None:
        info = _info(self.socket_path)
        if info is None or self._pid is None:
            raise StoreRefusedError("the store's server died while it was started: see server.log in its folder")
        running = Running(
            pid=self._pid,
            run_id=info["run_id"],
            socket=str(self.socket_path),
            binary=info["executable"],
            dataset_id=info["dataset_id"],
        )
        self._write("store.json", json.dumps(asdict(running), indent=2) + "\n")

    def _write(self, name: str, text: str) -> None:
        """Replace a file of the folder; a reader sees the old or the new one."""
        fresh = self._folder / f"{name}.new"
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(self._folder / name)

    def _left_socket(self) -> Path | None:
        """Where the last server listens or listened; None when nothing tells."""
        try:
            return Path((self._folder / "socket").read_text(encoding="utf-8"))
        except OSError:
            return None

    def _end(self, pid: int) -> None:
        os.kill(pid, signal.SIGTERM)
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(STOP_S)
            try:
                _connect(line, self.socket_path)
                line.recv(1)
            except TimeoutError:
                log.warning("store_killed", pid=pid, after_s=STOP_S)
                os.kill(pid, signal.SIGKILL)
                self.wait_dead()
            except OSError:
                return

    def _kill_own(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._pid = None

    def _let_go(self) -> None:
        if self._socket is not None and not self.alive():
            shutil.rmtree(self._socket.parent, ignore_errors=True)
        self._socket = None
        self._lock.drop()


def _connect(line: socket.socket, path: Path) -> None:
    """Connect, also to a server whose queue is full for a while: a socket with a timeout does not wait for that."""
    for _ in range(int(STOP_S / POLL_S)):
        with contextlib.suppress(BlockingIOError):
            return line.connect(str(path))
        time.sleep(POLL_S)
    raise TimeoutError


def _client(path: Path) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(path), protocol=3, retry=Retry(NoBackoff(), 0), socket_timeout=5.0)


def _info(path: Path) -> dict[str, str] | None:
    """What a server says of itself; None when none answers there."""
    client = _client(path)
    try:
        info = {str(name): str(value) for name, value in client.info("server").items()}
        info["folder"] = str(client.config_get("dir")["dir"])
        info["dataset_id"] = _dataset_id(client)
    except redis.exceptions.RedisError:
        return None
    finally:
        client.close()
    return info


def _dataset_id(client: redis.Redis) -> str:
    try:
        found = client.hget(key(FLEET_TAG, "meta"), "dataset_id")
    except redis.exceptions.ResponseError:
        # It does not serve data yet, as a cluster node without slots.
        return ""
    return found.decode() if isinstance(found, bytes) else ""


def _await_loaded(path: Path) -> bool:
    """Wait while a server that listens loads its data; False when it goes away or hangs."""
    while True:
        client = _client(path)
        try:
            client.ping()
        except redis.exceptions.BusyLoadingError:
            time.sleep(POLL_S)
        except redis.exceptions.RedisError:
            return False
        else:
            return True
        finally:
            client.close()


def _socket_folder() -> Path:
    """A new private directory whose path leaves room for a socket's name."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"):  # noqa: S108 mkdtemp is private
        if not parent or not os.access(parent, os.W_OK | os.X_OK):
            continue
        if len(os.fsencode(parent)) + len("/outrider-xxxxxxxx/s") <= SOCKET_PATH_MAX:
            return Path(tempfile.mkdtemp(prefix="outrider-", dir=parent))
    raise StoreRefusedError(
        f"no directory is short enough for a unix socket ({SOCKET_PATH_MAX} bytes): set TMPDIR to a short path"
    )


def _is_private(folder: Path) -> bool:
    try:
        about = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and stat.S_IMODE(about.st_mode) == stat.S_IRWXU
