"""Scenarios of identity: enrolment that is lost or refused, renewal, and a server that is somebody else."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent_sim.conform.scenario import Scenario
from agent_sim.conform.server import first_certificate
from agent_sim.conform.stage import Stage
from agent_sim.conform.tape import CHECK_IN, ENROLL, RENEW, SeenCall
from agent_sim.conform.world import VEHICLE_LIFE

_REFUSED_CALLS_MAX = 6
"""The longest back-off, uniform(0, 30 min), makes seven tries in twenty minutes once in a hundred thousand runs."""


def _enrolments(stage: Stage) -> list[SeenCall]:
    return list(stage.tape.calls(ENROLL))


async def enrolment_lost(stage: Stage) -> None:
    """The answer to the enrolment is lost, the agent killed; then all is well, and it is killed again."""
    lost = stage.fault(ENROLL, lose_reply=True, times=2)
    await stage.start_agent()
    await stage.until(lambda: lost.hits >= 1, "P-ENROL-2", "an enrolment")
    await stage.restart_agent()
    await stage.polled(clause="P-ENROL-3")
    requests = {call.request.csr for call in _enrolments(stage)}
    stage.check("P-ENROL-3", len(requests) == 1, f"{len(requests)} different requests were sent for one token")
    (csr, *_) = requests
    stage.check("P-ENROL-2", x509.load_der_x509_csr(csr).is_signature_valid, "the request is not signed by its own key")
    count = len(_enrolments(stage))
    await stage.restart_agent()
    await stage.polled()
    stage.check("P-ENROL-1", len(_enrolments(stage)) == count, "it enrolled again after a restart")


async def enrolment_refused(stage: Stage) -> None:
    """The token is refused."""
    stage.fault(ENROLL, status=grpc.StatusCode.PERMISSION_DENIED, reason="TOKEN_REFUSED", times=10_000)
    await stage.start_agent()
    await stage.until(lambda: bool(_enrolments(stage)), "P-ENROL-2", "an enrolment")
    await stage.watch(1200)
    count = len(_enrolments(stage))
    seen = f"{count} enrolments in twenty minutes, each refused"
    stage.check("P-ENROL-4", count <= _REFUSED_CALLS_MAX, seen)


async def stranger(stage: Stage) -> None:
    """Somebody else listens on the vehicle port, with a certificate of an authority of his own."""
    offer = stage.offer()
    stage.fault("AuthorizeInstall", status=grpc.StatusCode.UNAVAILABLE, times=10_000)
    await stage.start_agent()
    await stage.polled()
    await stage.server.stop()
    stage.server.stranger = True
    await stage.server.start()
    before = len(list(stage.tape.calls()))
    await stage.watch(600)
    calls = list(stage.tape.calls())[before:]
    stage.check("P-TLS-1", not calls, f"{len(calls)} calls to a server whose certificate nobody vouches for")
    await stage.server.stop()
    stage.server.stranger = False
    stage.mischief.clear()
    await stage.server.start()
    patience_s = stage.machine_s(2400) + stage.conditions.patience_s
    await stage.until(lambda: offer.succeeded, "P-ERR-1", "the update at the true server", patience_s=patience_s)


async def renewal(stage: Stage) -> None:
    """The first certificate is near its end; the answer to the first renewal is lost."""
    stage.server.life = timedelta(seconds=90)
    lost = stage.fault(RENEW, lose_reply=True)
    await stage.start_agent()
    await stage.until(lambda: bool(_enrolments(stage)), "P-ENROL-2", "an enrolment")
    await stage.until(lambda: lost.hits > 0, "P-RENEW-1", "RenewCertificate")
    stage.server.life = VEHICLE_LIFE
    renewals = partial(_renewals, stage)
    await stage.until(lambda: bool(renewals()), "P-RENEW-3", "another RenewCertificate after a lost answer")
    new = first_certificate(renewals()[0].reply.certificate_chain)
    await stage.until(
        lambda: any(call.certificate == new for call in stage.tape.calls(CHECK_IN)),
        "P-RENEW-1",
        "a call with the new certificate",
    )
    old = _enrolments(stage)[0].request.csr
    keys = [_key(old), *(_key(call.request.csr) for call in renewals())]
    stage.check("P-RENEW-2", len(set(keys)) == len(keys), "a renewal was asked for the key of before")
    stage.kept("P-RENEW-3")
    await stage.restart_agent()
    await stage.polled(3)
    again = len(renewals())
    stage.check("P-RENEW-1", again == 1, f"{again} renewals; one was due")
    last = stage.answered_polls()[-1].certificate
    stage.check("P-RENEW-3", last == new, "after a restart it went back to the old certificate")


def _renewals(stage: Stage) -> list[SeenCall]:
    return [call for call in stage.tape.calls(RENEW) if call.answered]


def _key(csr: bytes) -> bytes:
    public: Any = x509.load_der_x509_csr(csr).public_key()
    encoded: bytes = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encoded


SCENARIOS = (
    Scenario(
        "enrolment-lost",
        "the answer to the enrolment is lost",
        ("P-ENROL-1", "P-ENROL-2", "P-ENROL-3"),
        enrolment_lost,
        short=True,
    ),
    Scenario("enrolment-refused", "the token is refused", ("P-ENROL-4",), enrolment_refused),
    Scenario("stranger", "somebody else listens on the vehicle port", ("P-TLS-1",), stranger),
    Scenario("renewal", "the certificate is near its end", ("P-RENEW-1", "P-RENEW-2", "P-RENEW-3"), renewal),
)
