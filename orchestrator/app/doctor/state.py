"""Checks of what Outrider remembers by: the store, its append-only file, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import redis

from orchestrator.app.doctor.findings import Finding, error, ok, skipped, warning
from orchestrator.app.doctor.patient import ANSWER_S, Patient, read_json
from orchestrator.app.doctor.servers import (
    check_cluster,
    check_data,
    check_durable,
    check_functions,
    check_server,
    client_of,
    client_of_data,
    text,
)
from orchestrator.ledger import LedgerError, LedgerUnavailableError
from orchestrator.ledger.database import Connection, database_at
from orchestrator.store.base import StoreRefusedError
from orchestrator.store.redis import append_only
from orchestrator.store.redis.address import read_address
from orchestrator.store.redis.keys import FLEET_TAG, key

_START = "start it: `outrider serve`; docs/runbooks/store-down.md helps where it does not start"


def check_store(patient: Patient) -> Iterator[Finding]:
    """Whether the store answers, keeps what it acknowledges, and holds this build's functions and data."""
    url = patient.store_url
    if not url:
        yield from _check_at_rest(patient)
        return
    checks_durability = patient.settings is None or patient.settings.store_durability == "always"
    try:
        where = read_address(url)
        if where.cluster:
            replicas_min = patient.settings.store_replicas_min if patient.settings is not None else 0
            yield from check_cluster(where, replicas_min=replicas_min, checks_durability=checks_durability)
            return
        with closing(client_of(url)) as client:
            client.ping()
            yield from check_server(client)
            if checks_durability:
                yield from check_durable(client)
            yield from check_data(client)
            yield from check_functions(client)
    except StoreRefusedError as fault:
        yield error("store", str(fault), "correct store_url")
    except redis.exceptions.BusyLoadingError:
        yield warning("store", "it loads its data and answers nobody yet", "wait; a long file takes minutes")
    except redis.exceptions.RedisError as fault:
        yield error("store", f"it does not answer at {_shown(url)}: {fault}", _START)
        if not patient.running:
            yield from _check_file(patient)


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
            with closing(client_of_data(patient.store_url)) as client:
                return text(client.hget(key(FLEET_TAG, "meta"), "dataset_id"))
        except (redis.exceptions.RedisError, StoreRefusedError):
            return ""
    return str(read_json(patient.installation.store / "store.json").get("dataset_id", ""))
