"""Checks of what others trust: certificate authorities, operators' certificates, both repositories' metadata."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from orchestrator.app.doctor.findings import Finding, error, ok, skipped, warning
from orchestrator.app.doctor.patient import Patient
from signing.director import DirectorSigners
from signing.errors import SigningError
from signing.image_repo import ImageRepository
from signing.ingest_gate import IngestGate
from signing.pki import Authority
from signing.roots import newest_root

AUTHORITIES = ("server", "vehicle", "operator")
AUTHORITY_WARNING = timedelta(days=365)
"""Vehicles carry the authority: a year to bring them a new one."""
OPERATOR_WARNING = timedelta(days=30)
ROOT_WARNING = timedelta(days=60)
RENEWED_SHARE = {"timestamp": timedelta(hours=24), "snapshot": timedelta(days=7)}
"""Life of what `image-repo renew` signs anew when half of it is over."""
TARGETS_WARNING = timedelta(days=14)
_RENEW = "`outrider image-repo renew --every 600` must run as a service where the Image repository's keys are"


def check_authorities(patient: Patient) -> Iterator[Finding]:
    """Whether the three certificate authorities can issue, and for how long."""
    for name in AUTHORITIES:
        check = f"{name} authority"
        try:
            authority = Authority.load(patient.installation.authorities, name)
        except (SigningError, OSError) as fault:
            yield error(check, str(fault), "restore authorities/ from the backup of this installation")
            continue
        yield _ends(
            check,
            authority.expires,
            patient.now,
            AUTHORITY_WARNING,
            f"`outrider ca renew {name}`; docs/runbooks/certificate-authority-near-expiry.md",
        )


def check_operators(patient: Patient) -> Iterator[Finding]:
    """Whether each operator's certificate is from our authority and valid."""
    found = sorted(patient.installation.data.glob("operators/*/operator.crt"))
    if not found:
        yield skipped("operators", "no operator's identity lies here", "`outrider ca issue-operator NAME --role ROLE`")
    for path in found:
        name = path.parent.name
        remedy = f"remove {path.parent} and issue anew: `outrider ca issue-operator {name} --role ROLE`"
        try:
            certificate, authority = _certificate(path), _certificate(patient.installation.authorities / "operator.crt")
        except (OSError, ValueError) as fault:
            yield error(f"operator {name}", f"{path} cannot be read: {fault}", remedy)
            continue
        try:
            certificate.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            yield error(f"operator {name}", "its certificate is not from this installation's authority", remedy)
            continue
        yield _ends(f"operator {name}", certificate.not_valid_after_utc, patient.now, OPERATOR_WARNING, remedy)


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def check_image_repository(patient: Patient) -> Iterator[Finding]:
    """Whether vehicles accept the Image repository, and somebody keeps it fresh."""
    check = "image repository"
    try:
        expiries = ImageRepository(patient.installation.image_repository).expiries()
    except (SigningError, OSError) as fault:
        yield error(check, f"it cannot be read: {fault}", "restore image-repo/ from the backup, or publish it again")
        return
    now = patient.fleet_now
    if now is None:
        yield skipped(
            check, "metadata ends by fleet time, which only a running service tells", "look again while it serves"
        )
        return
    for role, expires in sorted(expiries.items()):
        life = RENEWED_SHARE.get(role)
        margin = life / 4 if life else ROOT_WARNING if role == "root" else TARGETS_WARNING
        offline = "renew image` (docs/keys.md)" if role == "root" else "renew image targets`, or publish any release"
        remedy = _RENEW if life else f"`outrider keys {offline}"
        yield _ends(f"image {role}", expires, now, margin, remedy, "fleet time")


def check_vouching(patient: Patient) -> Iterator[Finding]:
    """Whether somebody vouches for every image that could be assigned."""
    check, folder = "vouching", patient.installation.image_repository
    gate = IngestGate(folder)
    try:
        images = ImageRepository(folder).listed()
        if gate.attesters() is None:
            yield warning(
                check,
                "images are assigned without anybody's word that their evidence was judged: no key of attest is named",
                "name one: docs/keys.md, Who vouches for images",
            )
            return
        faults = {image.version: why for image in images if (why := gate.fault(image))}
    except (SigningError, OSError) as fault:
        yield error(check, f"nothing can be assigned: {fault}", "restore image-repo/ from the backup")
        return
    for version, why in sorted(faults.items()):
        yield warning(check, f"release {version} is assigned to no vehicle: {why}", "`outrider release attest`")
    if not faults:
        yield ok(check, f"somebody vouches for each of {len(images)} images")


def check_director(patient: Patient) -> Iterator[Finding]:
    """Whether the Director's online keys and roots are there."""
    check = "director"
    try:
        root = newest_root(patient.installation.director_metadata).signed
    except (SigningError, OSError) as fault:
        yield error(check, f"vehicles can verify nothing: {fault}", "restore director/metadata from the backup")
        return
    try:
        DirectorSigners.load(patient.installation.director_keys, root)
    except SigningError as fault:
        yield error(
            check,
            f"the signer cannot sign: {fault}",
            "restore the key from backup, or replace it: docs/runbooks/keys/director-online-key.md",
        )
    now = patient.fleet_now
    if now is None:
        yield skipped("director root", "it ends by fleet time, which only a running service tells")
        return
    yield _ends(
        "director root", root.expires, now, ROOT_WARNING, "`outrider keys renew director`; docs/keys.md", "fleet time"
    )


def check_offline_keys(patient: Patient) -> Iterator[Finding]:
    """Whether keys that sign releases lie where a thief of the server finds them."""
    found = patient.installation.offline_keys()
    if not found:
        yield ok("offline keys", "no key lies here that could release software")
        return
    names = ", ".join(str(path.relative_to(patient.installation.data)) for path in found)
    yield warning(
        "offline keys",
        f"keys that no running service needs lie here: {names}",
        "take them offline before production; SECURITY.md says why and how",
    )


def _ends(
    check: str, expires: datetime, now: datetime, margin: timedelta, remedy: str, clock: str = "machine time"
) -> Finding:
    left = expires - now
    when = f"{expires:%Y-%m-%d %H:%M} UTC, {clock}"
    if left <= timedelta(0):
        return error(check, f"ended {_days(-left)} ago ({when})", remedy)
    if left < margin:
        return warning(check, f"ends in {_days(left)} ({when})", remedy)
    return ok(check, f"good for {_days(left)} ({when})")


def _days(span: timedelta) -> str:
    if span >= timedelta(days=2):
        return f"{span.days} d"
    hours, seconds = divmod(int(span.total_seconds()), 3600)
    return f"{hours} h" if hours else f"{seconds // 60} min"
