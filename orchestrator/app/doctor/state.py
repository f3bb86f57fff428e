"""Checks of what Outrider remembers by: the store, its append-only file, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from orchestrator.app.doctor.findings import Finding, error, ok, skipped, warning
from orchestrator.app.doctor.patient import ANSWER_S, Patient, read_json
from orchestrator.ledger import LedgerError, LedgerUnavailableError
from orchestrator.ledger.database import Connection, database_at
from orchestrator.store.redis import append_only
from orchestrator.store.redis.admission import VERSION_MIN
from orchestrator.store.redis.keys import FLEET_TAG, key
from orchestrator.store.redis.library import LIBRARY, render
from orchestrator.store.redis.packing import SCHEMA

MEMORY_WARNING_SHARE = 0.8
_START = "start it: `outrider serve`; docs/runbooks/store-down.md helps where it does not start"


def check_store(patient: Patient) -> Iterator[Finding]:
    """Whether the store answers, keeps what it acknowledges, and holds this build's functions and data."""
    url = patient.store_url
    if not url:
        yield from _check_at_rest(patient)
        return
    client = _client(url)
    try:
        with closing(client):
            client.ping()
            yield from _check_server(client)
            if patient.settings is None or patient.settings.store_durability == "always":
                yield from _check_durable(client)
            yield from _check_content(client)
    except redis.exceptions.BusyLoadingError:
        yield warning("store", "it loads its data and answers nobody yet", "wait; a long file takes minutes")
    except redis.exceptions.RedisError as fault:
        yield error("store", f"it does not answer at {_shown(url)}: {fault}", _START)
        if not patient.running:
            yield from _check_file(patient)


def _client(url: str) -> redis.Redis:
    client: redis.Redis = redis.Redis.from_url(
        url, protocol=3, retry=Retry(NoBackoff(), 0), socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S
    )
    return client


def _shown(url: str) -> str:
    """The address without a password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


def _check_at_rest(patient: Patient) -> Iterator[Finding]:
    if not patient.installation.store.is_dir():
        yield skipped("store", "the private store was never started", "`outrider serve` makes it")
        return
    yield skipped("store", "no server runs on the private store", "`outrider serve` starts it")
    yield from _check_file(patient)


def _check_file(patient: Patient) -> Iterator[Finding]:
    """The append-only file while no server runs on it."""
    if patient.settings is not None and patient.settings.store_url:
        return
    damage = append_only.check(patient.installation.store)
    if damage:
        remedy = "`outrider store repair` cuts the damaged tail and keeps a copy; rollouts come up paused afterwards"
        yield error("store file", f"the append-only file is damaged: {damage}", remedy)
    else:
        yield ok("store file", "the append-only file is whole")


def _check_server(client: redis.Redis) -> Iterator[Finding]:
    info: dict[str, Any] = client.info("everything")
    version = str(info.get("redis_version", "0.0"))
    if tuple(int(part) for part in version.split(".")[:2]) < VERSION_MIN:
        yield error("store", f"version {version} < 7.0: it has no Functions", "use Redis >= 7.0 or Valkey")
        return
    name = f"{info.get('server_name', 'redis')} {info.get('valkey_version', version)}"
    yield ok("store", f"{name} answers; up for {int(info.get('uptime_in_seconds', 0)) // 60} min")
    policy = str(info.get("maxmemory_policy", ""))
    if policy != "noeviction":
        yield error("store memory", f"maxmemory-policy is {policy}: it throws state away", "set it to `noeviction`")
    used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    if most and used > MEMORY_WARNING_SHARE * most:
        remedy = "raise maxmemory before it refuses writes; then grants and acknowledgements stop"
        yield warning("store memory", f"{used / most:.0%} of maxmemory ({most // 1024**2} MiB) is used", remedy)
    for field in ("aof_last_write_status", "aof_last_bgrewrite_status"):
        if info.get(field, "ok") != "ok":
            yield error("store file", f"{field} is {info[field]}", "look at the disk: docs/runbooks/disk-full.md")


def _check_durable(client: redis.Redis) -> Iterator[Finding]:
    remedy = "set `appendonly yes` and `appendfsync always`, or --store-durability=provider if its provider answers"
    try:
        config = {str(name): str(value) for name, value in client.config_get("append*").items()}
    except redis.exceptions.ResponseError as fault:
        yield error("store durability", f"it does not say whether it syncs to disk: {fault}", remedy)
        return
    wrong = [f"{name} {config.get(name)}" for name, needed in _DURABLE.items() if config.get(name) != needed]
    if wrong:
        yield error("store durability", f"acknowledged events can be lost: {', '.join(wrong)}", remedy)
    else:
        yield ok("store durability", "every acknowledgement is on disk before it is given")


_DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def _check_content(client: redis.Redis) -> Iterator[Finding]:
    schema = _text(client.hget(key(FLEET_TAG, "meta"), "schema"))
    if schema and schema != str(SCHEMA):
        remedy = "start the Outrider that wrote it"
        yield error("store data", f"its records have schema {schema}, this build reads {SCHEMA}", remedy)
    elif not schema and client.dbsize():
        remedy = "give Outrider a database of its own"
        yield error("store data", f"it holds {client.dbsize()} keys that are not Outrider's", remedy)
    else:
        yield ok("store data", f"schema {SCHEMA}" if schema else "empty: no orchestrator has used it yet")
    if not schema:
        return
    found = client.function_list(LIBRARY, withcode=True)
    code = _text(_field(found[0], "library_code")) if found else ""
    if not code:
        yield error("store functions", f"library {LIBRARY} is not loaded", "restart `outrider serve`: it loads it")
    elif code != render():
        remedy = "restart `outrider serve` of this build, or use the command of the build that serves"
        yield warning("store functions", f"library {LIBRARY} is another build's", remedy)
    else:
        yield ok("store functions", f"library {LIBRARY} is this build's")


def _field(library: Any, name: str) -> Any:
    fields = library if isinstance(library, dict) else dict(zip(library[::2], library[1::2], strict=True))
    return {_text(field): value for field, value in fields.items()}.get(name)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def check_ledger(patient: Patient) -> Iterator[Finding]:
    """Whether the ledger can be reached and is ours, ends where it was left, and belongs to the store's data set.

    Does not follow the whole chain: that is `outrider ledger verify`.
    """
    url = patient.settings.ledger_url if patient.settings is not None else ""
    path = patient.installation.ledger
    if not url and not path.is_file():
        yield skipped("ledger", "there is none yet", "`outrider serve` makes it")
        return
    try:
        database = database_at(url or path, busy_timeout_s=ANSWER_S)
        with database.explained(), closing(database.open_reading()) as ledger:
            yield from _check_end(patient, ledger)
    except LedgerUnavailableError as fault:
        remedy = "nothing is lost meanwhile: what happens waits in the journal"
        yield (error if url else warning)("ledger", str(fault), remedy)
    except LedgerError as fault:
        yield error("ledger", str(fault), _RESTORE)


_RESTORE = "do what it says; where something is damaged, keep a copy as evidence and restore the last backup"


def _check_end(patient: Patient, ledger: Connection) -> Iterator[Finding]:
    last = next(ledger.rows("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1"), None)
    meta = dict(ledger.rows("SELECT name, value FROM meta"))
    seq, head = (last[0], last[1].hex()) if last else (0, meta.get("head_hash", ""))
    if (str(seq), head) != (meta.get("head_seq", "0"), meta.get("head_hash", "")):
        cause = f"it ends at entry {seq}, but {meta.get('head_seq', '0')} was written last: rows were removed or added"
        yield error("ledger", cause, f"{_RESTORE}; `outrider ledger verify` names the entry")
    else:
        yield ok("ledger", f"{seq} entries, and it ends where it was left; `outrider ledger verify` follows every one")
    yield from _check_same_data(patient, meta.get("dataset_id", ""))


def _check_same_data(patient: Patient, of_ledger: str) -> Iterator[Finding]:
    of_store = _dataset_of_store(patient)
    if of_store and of_ledger and of_store != of_ledger:
        remedy = "restore the store and the ledger from the same backup; until then rollouts come up paused"
        cause = f"the ledger belongs to data set {of_ledger[:8]}, the store holds {of_store[:8]}"
        yield error("ledger", cause, remedy)


def _dataset_of_store(patient: Patient) -> str:
    if patient.store_url:
        try:
            with closing(_client(patient.store_url)) as client:
                return _text(client.hget(key(FLEET_TAG, "meta"), "dataset_id"))
        except redis.exceptions.RedisError:
            return ""
    return str(read_json(patient.installation.store / "store.json").get("dataset_id", ""))
