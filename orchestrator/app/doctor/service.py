"""Checks of the running service: who serves, whether its ports answer, whether its evaluator keeps up."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from orchestrator.app.doctor.findings import Finding, error, ok, skipped, warning
from orchestrator.app.doctor.patient import ANSWER_S, Patient
from orchestrator.app.installation import PORT_NAMES, is_free
from orchestrator.clock import AHEAD_MAX_MS
from orchestrator.store.base import DEAD_MAN_LIFE_MS

LAG_WARNING_ENTRIES = 512
"""Journal entries that wait after a tick: more than one batch of one stream."""
SERVER_CERTIFICATE_WARNING = timedelta(days=14)
_TLS_PORTS = tuple(name for name in PORT_NAMES if name != "web")
_SERVE = "`outrider serve` starts it"


def check_process(patient: Patient) -> Iterator[Finding]:
    """Whether `endpoints.json` tells the truth."""
    served = patient.served
    if served is None:
        if patient.installation.endpoints.exists():
            yield error("service", "endpoints.json cannot be read", "remove it and start `outrider serve`")
        else:
            yield skipped("service", "nobody has served this folder yet", _SERVE)
        return
    if patient.running:
        yield ok("service", f"process {served.pid} serves this folder")
        return
    taken = [name for name in _TLS_PORTS if not _free(served.addresses[name])]
    if taken:
        cause = f"process {served.pid} is gone, but something listens on its port(s) {', '.join(taken)}"
        yield error("service", cause, "find it with `ss -ltnp`; vehicles that know these ports call it")
    else:
        yield skipped("service", f"nobody serves: process {served.pid}, which did last, is gone", _SERVE)


def _free(address: str) -> bool:
    host, _, port = address.removeprefix("https://").rpartition(":")
    return not port.isdecimal() or is_free(host, int(port))


def check_readiness(patient: Patient) -> Iterator[Finding]:
    """Whether the service says that it can work."""
    if not patient.running or patient.served is None:
        yield skipped("readiness", "nobody serves")
        return
    url = f"{patient.served.addresses['web']}/readyz"
    try:
        with urlopen(url, timeout=ANSWER_S):  # noqa: S310 - our own address
            yield ok("readiness", f"{url} says ready")
    except HTTPError as answer:
        reasons = json.loads(answer.read() or b"{}").get("not_ready", {})
        told = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or f"status {answer.code}"
        yield error("readiness", f"not ready: {told}", "mend what is named; the service recovers by itself")
    except (URLError, OSError) as fault:
        reason = getattr(fault, "reason", fault)
        remedy = "the process hangs or another one has its port: look at its log, then restart it"
        yield error("readiness", f"{url} does not answer: {reason}", remedy)


def check_ports(patient: Patient) -> Iterator[Finding]:
    """Whether each port answers by TLS with a certificate that clients accept."""
    if not patient.running or patient.served is None:
        yield skipped("ports", "nobody serves")
        return
    for name in _TLS_PORTS:
        yield _check_port(patient, name, patient.served.addresses[name].removeprefix("https://"))


def _check_port(patient: Patient, name: str, address: str) -> Finding:
    host, _, port = address.rpartition(":")
    check = f"{name} port"
    try:
        context = ssl.create_default_context(cafile=str(patient.installation.authorities / "server.crt"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        with (
            socket.create_connection((host, int(port)), timeout=ANSWER_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as line,
        ):
            certificate = line.getpeercert() or {}
    except ssl.SSLCertVerificationError as fault:
        return error(check, f"{address} shows a certificate that clients refuse: {fault.verify_message}", _RESTART)
    except (OSError, ValueError) as fault:
        return error(check, f"{address} does not answer: {fault}", "look at the log of `outrider serve`, restart it")
    expires = datetime.fromtimestamp(ssl.cert_time_to_seconds(str(certificate.get("notAfter"))), tz=UTC)
    left = expires - patient.now
    if left < SERVER_CERTIFICATE_WARNING:
        return warning(check, f"its certificate ends in {left.days} d ({expires:%Y-%m-%d %H:%M} UTC)", _RESTART)
    return ok(check, f"{address} answers by TLS 1.3; its certificate is good for {left.days} d")


_RESTART = "restart `outrider serve`: it issues itself a new one at each start"


def check_evaluator(patient: Patient) -> Iterator[Finding]:
    """Whether rollouts are judged: without it, nothing is granted after ten seconds."""
    if not patient.running:
        yield skipped("evaluator", "nobody serves")
        return
    if not patient.samples:
        yield error("evaluator", "/metrics does not answer, so nobody can tell", "see what the readiness says")
        return
    last = patient.sample("outrider_evaluator_last_tick_timestamp_seconds")
    if not last:
        yield error("evaluator", "it has not finished a look yet", "see its log lines (`evaluator`), check the store")
        return
    age_ms = patient.now.timestamp() * 1000 - last * 1000
    if age_ms > DEAD_MAN_LIFE_MS:
        cause = f"its last look was {age_ms / 1000:.0f} s ago; after {DEAD_MAN_LIFE_MS // 1000} s nothing is granted"
        yield error("evaluator", cause, "docs/runbooks/evaluator-late.md; running installs go on meanwhile")
    else:
        yield ok("evaluator", f"it looked {max(0.0, age_ms / 1000):.1f} s ago")
    lag = patient.sample("outrider_journal_lag_entries") or 0
    if lag > LAG_WARNING_ENTRIES:
        remedy = "docs/runbooks/journal-lag.md; nothing is lost, decisions are late"
        yield warning("ledger feed", f"{lag:.0f} journal entries wait for the ledger", remedy)


def check_clock(patient: Patient) -> Iterator[Finding]:
    """Whether fleet time is what the store's date says."""
    found = patient.samples.get("outrider_fleet_time_ahead_seconds")
    if not found:
        yield skipped("fleet time", "nobody serves, or /metrics does not answer")
        return
    ahead_s = max(value for _, value in found)
    if ahead_s * 1000 > AHEAD_MAX_MS:
        cause = f"{ahead_s:.0f} s ahead of the store's date, which was set back; it runs at half its pace until then"
        yield error("fleet time", cause, "see to that machine's date: docs/runbooks/fleet-time-ahead.md")
    else:
        yield ok("fleet time", "as the store's date says")


def check_build(patient: Patient) -> Iterator[Finding]:
    """Whether the command and the service are of one version."""
    from_service = [labels.get("version", "") for labels, _ in patient.samples.get("outrider_build_info", [])]
    if not from_service:
        yield skipped("version", "nobody serves, or /metrics does not answer")
    elif from_service[0] != patient.version:
        cause = f"version {from_service[0]} serves, this command is {patient.version}"
        yield warning("version", cause, "use the command of the version that serves, or restart the service")
    else:
        yield ok("version", f"{patient.version}, as what serves")
