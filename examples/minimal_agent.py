"""A whole vehicle agent in one file, to read beside docs/agent-protocol.md: it updates the files of a folder.

FOLDER is a provisioning folder (docs/conform.md). A control unit is two files, slots a and b, in FOLDER/state/ecus.
What is remembered is FOLDER/state/agent.json, replaced whole and synced before anything is sent or done. Linux only.
"""

import hashlib
import json
import random
import ssl
import sys
import time
import urllib.request
import uuid
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

import grpc
from cryptography.x509 import load_pem_x509_certificate
from google.rpc import error_details_pb2, status_pb2
from outrider.v1 import enrollment_pb2, enrollment_pb2_grpc, vehicle_pb2_grpc
from outrider.v1 import vehicle_pb2 as pb

from signing import errors, files, keys, manifest, names, pki, verify

Json = dict[str, Any]
FRESH: Json = {"next": 1, "events": [], "finished": [], "counter": 0, "fleet_ms": 0, "manifest": "", "handed_in": False}
REPOSITORIES = {pb.REPOSITORY_DIRECTOR: "director", pb.REPOSITORY_IMAGE: "image"}
BEGUN = ("installing", "rebooting")


class Agent:
    """The Primary of one vehicle. `s` is what survives; the other waits are seconds of machine time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state, roots = folder, folder / "state", folder / "provisioning"
        self.vehicle, self.scale = self._read("vehicle.json"), float(self._read("endpoints.json").get("scale", 1))
        self.ecus = {ecu["serial"]: ecu for ecu in self.vehicle["ecus"]}
        self.keys = {serial: keys.load_signer(folder / "keys", serial) for serial in self.ecus}
        slots = {serial: [ecu["installed"] | {"slot": "a"}] for serial, ecu in self.ecus.items()}
        fresh = FRESH | {"outbox_id": uuid.uuid4().hex, "ids": [], "request": None, "attempt": None, "slots": slots}
        self.s: Json = self._read("state/agent.json") or fresh
        for part in ("downloads", "ecus"):
            (self.state / part).mkdir(parents=True, exist_ok=True)
        self.ca, director, image = (
            (roots / f).read_bytes() for f in ("enrolment-ca.pem", "director-root.json", "image-root.json")
        )
        self.verifier = verify.PrimaryVerifier(
            self.state,
            vehicle_id=self.vehicle["vehicle_id"],
            ecus={serial: ecu["hardware_id"] for serial, ecu in self.ecus.items()},
            director_root=director,
            image_root=image,
        )
        self.clock, self.failures, self.broken = (self._now(), self.s["fleet_ms"]), 0, 0
        self.call_at = self.ask_at = self.fetch_at = 0.0
        self.poll_at = self._now() + bool(self.s["manifest"]) * random.uniform(0, 600) / self.scale
        self.tls = ssl.create_default_context(cadata=self.ca.decode())
        self.stub: Any = None
        self._connect()

    def step(self) -> None:
        """Do what is due. A call that fails has set when the next may be made."""
        a = self.s["attempt"]
        if a and a["phase"] in BEGUN:
            self._install(a)
        elif a and a["phase"] == "downloading" and self._now() >= self.fetch_at and not self._waits(a):
            self._fetch(a)
        if self._now() < self.call_at:
            return
        self._identify()
        if self.s["events"] or self._now() >= self.poll_at:
            self._poll()
        elif self.s["manifest"] and not self.s["handed_in"]:
            self._hand_in()
        elif (a := self.s["attempt"]) and a["phase"] == "ready" and self._now() >= self.ask_at and not self._waits(a):
            self._ask(a)

    # What is remembered. Whoever changes `s` saves it before anything else happens.

    def _read(self, name: str) -> Any:
        return json.loads((self.folder / name).read_bytes()) if (self.folder / name).exists() else {}

    def _save(self) -> None:
        self.s["fleet_ms"] = self._fleet_ms()
        files.write_atomically(self.state / "agent.json", json.dumps(self.s).encode(), mode=0o600)

    def _now(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)  # it runs on while the vehicle sleeps

    def _fleet_ms(self) -> int:
        return int(self.clock[1] + (self._now() - self.clock[0]) * 1000 * self.scale)

    def _tell(self, attempt_id: str, kind: str, code: str = "") -> None:
        event = {"number": self.s["next"], "attempt_id": attempt_id, "kind": f"EVENT_KIND_{kind}", "failure_code": code}
        self.s["events"].append(event | {"event_time": {"seconds": self._fleet_ms() // 1000}})
        self.s["next"] += 1

    def _end(self, attempt_id: str, kind: str = "", code: str = "") -> None:
        if self.s["attempt"] and self.s["attempt"]["id"] == attempt_id:
            self.s["attempt"] = None
        self.s["finished"] = [*self.s["finished"], attempt_id][-8:]
        if kind:
            self._tell(attempt_id, kind, code)
        self._attest(code if code in set(errors.AttackCode) else "")
        for path in (self.state / "downloads").iterdir():
            path.unlink()

    def _attest(self, attack: str = "") -> None:
        counter, primary = max(self.s["counter"] + 1, self._fleet_ms() // 1000), self.vehicle["ecus"][0]["serial"]
        at, reports = datetime.fromtimestamp(self._fleet_ms() // 1000, UTC), []
        for serial, (image, *_) in self.s["slots"].items():
            says = (image["path"], image["length"], image["sha256"], attack if serial == primary else "", at, counter)
            reports.append(manifest.sign_report(manifest.EcuReport(serial, *says), self.keys[serial]))
        signed = manifest.sign_manifest(self.vehicle["vehicle_id"], primary, reports, self.keys[primary])
        self.s |= {"counter": counter, "manifest": signed.decode(), "handed_in": False}
        self._save()

    # Identity and calls.

    def _connect(self) -> None:
        if self.s["ids"]:
            key, chain, authority = (text.encode() for text in self.s["ids"][0])
            tls = grpc.ssl_channel_credentials(authority, key, chain)
            channel = grpc.secure_channel(
                self._read("endpoints.json")["vehicles"], tls, [("grpc.max_receive_message_length", 16 << 20)]
            )
            self.stub = vehicle_pb2_grpc.VehicleServiceStub(channel)

    def _call(self, method: str, request: Any) -> Any:
        try:
            reply = getattr(self.stub, method)(request, timeout=30)
        except grpc.RpcError as error:
            wait_s = self._backoff_s(self.failures)
            self.failures = 9 if error.code() is grpc.StatusCode.PERMISSION_DENIED else self.failures + 1
            trailing: Any = error.trailing_metadata() or ()
            for detail in status_pb2.Status.FromString(dict(trailing).get("grpc-status-details-bin", b"")).details:
                if detail.Unpack(info := error_details_pb2.RetryInfo()):
                    wait_s = max(wait_s, info.retry_delay.ToTimedelta().total_seconds() * random.uniform(1, 1.5))
            self.call_at = self._now() + wait_s
            if error.code() is grpc.StatusCode.UNAVAILABLE:  # it moved, or does not know the newer certificate
                self.s["ids"].reverse()
                self._connect()
            raise
        self.failures = 0
        return reply

    def _backoff_s(self, failures: int) -> float:
        return random.uniform(0, min(1800.0, 5.0 * 2 ** min(failures, 9))) / self.scale

    def _identify(self) -> None:
        """Enrol, or renew at two thirds of the certificate's life. Key and request are kept before the first try."""
        valid = False
        if self.s["ids"]:
            leaf, today = load_pem_x509_certificate(self.s["ids"][0][1].encode()), datetime.now(UTC)
            begins, ends = leaf.not_valid_before_utc, leaf.not_valid_after_utc
            valid = today < ends
            if today < begins + (ends - begins) * 2 / 3 or (valid and len(self.s["ids"]) > 1):
                return
        if not self.s["request"]:
            key = pki.new_key()
            self.s["request"] = [pki.key_pem(key).decode(), pki.certificate_request(key).hex()]
            self._save()
        key_pem, csr = self.s["request"][0], bytes.fromhex(self.s["request"][1])
        if valid:
            reply = self._call("RenewCertificate", pb.RenewCertificateRequest(csr=csr))
        else:
            tls = grpc.ssl_channel_credentials(self.ca)
            channel = grpc.secure_channel(self._read("endpoints.json")["enrollment"], tls)
            self.stub, vehicle = enrollment_pb2_grpc.EnrollmentServiceStub(channel), self._read("vehicle.json")
            who = {"vehicle_id": vehicle["vehicle_id"], "token": vehicle["token"]}
            reply = self._call("Enroll", enrollment_pb2.EnrollRequest(**who, csr=csr))
        new = [key_pem, reply.certificate_chain.decode(), reply.server_ca.decode()]
        self.s |= {"ids": [new, *self.s["ids"]][:2] if valid else [new], "request": None}
        self._save()
        self._connect()

    def _poll(self) -> None:
        s, held = self.s, self.verifier.versions()
        director, image = (
            pb.MetadataVersions(root=v.root, timestamp=v.timestamp, snapshot=v.snapshot, targets=v.targets)
            for v in held
        )
        request = pb.CheckInRequest(
            outbox_id=s["outbox_id"],
            events=[pb.Event(**event) for event in s["events"][:64]],
            oldest_number=s["events"][0]["number"] if s["events"] else 0,
            manifest_sha256=hashlib.sha256(s["manifest"].encode()).hexdigest() if s["manifest"] else "",
            conditions=self._conditions(),
            director_versions=director,
            image_versions=image,
        )
        reply = self._call("CheckIn", request)
        self.clock = (self._now(), reply.fleet_time.ToMilliseconds())
        after_s = min(max(reply.next_poll_after.seconds, 60), 86_400) * random.uniform(0.5, 1.5)
        self.poll_at = self._now() + after_s / self.scale
        if reply.acknowledged_number < s["next"]:
            s["events"] = [event for event in s["events"] if event["number"] > reply.acknowledged_number]
        else:  # P-OUTBOX-5: what is remembered here is older than what was told once
            s["events"] = [event | {"number": number} for number, event in enumerate(s["events"], 1)]
            s |= {"outbox_id": uuid.uuid4().hex, "next": len(s["events"]) + 1}
        s["ids"], s["handed_in"] = s["ids"][:1], not reply.manifest_wanted
        if not s["manifest"]:
            self._attest()
        match reply.directive.WhichOneof("kind"):
            case "install":
                given = {(REPOSITORIES.get(f.repository, ""), f.name): f.content for f in reply.metadata}
                self._take_up(reply.directive.install, given)
            case "withdraw":
                self._withdraw(reply.directive.withdraw.attempt_id)
        self._save()

    def _hand_in(self) -> None:
        try:
            self._call("SubmitManifest", pb.SubmitManifestRequest(manifest=self.s["manifest"].encode()))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
                self._attest()
            raise
        self.s["handed_in"] = True
        self._save()

    # The way of an attempt.

    def _withdraw(self, attempt_id: str) -> None:
        a = self.s["attempt"]
        if attempt_id not in self.s["finished"] and not (a and a["id"] == attempt_id and a["phase"] in BEGUN):
            self._end(attempt_id, "WITHDRAWAL_OBEYED")

    def _take_up(self, directive: pb.InstallDirective, given: dict[tuple[str, str], bytes]) -> None:
        a, attempt_id, pre = self.s["attempt"], directive.attempt_id, directive.preconditions
        wishes = {"bases": list(directive.image_base_urls), "consent": directive.consent, "notes": directive.notes}
        wishes |= {"unmetered": pre.unmetered, "parked": pre.parked, "battery": pre.battery_percent_min}
        if a and a["id"] == attempt_id:
            a |= wishes
        elif attempt_id not in self.s["finished"] and not (a and a["phase"] in BEGUN):
            if a:
                self._end(a["id"])
            try:
                images = [self._wanted(image) for image in self._verified(given)]
            except errors.VerificationError as error:
                self._end(attempt_id, "REJECTED", error.code)
                return
            self.s["attempt"] = {"id": attempt_id, "phase": "downloading", "cause": None, "images": images} | wishes
            if not images:
                self._end(attempt_id, "REJECTED", "nothing_assigned")
            elif all(self.s["slots"][u][0]["sha256"] == image["sha256"] for image in images for u in image["units"]):
                self._end(attempt_id)

    def _wanted(self, image: verify.VerifiedImage) -> Json:
        said = {"path": image.path, "length": image.length, "sha256": image.sha256, "units": image.ecu_serials}
        return said | {"release_counter": image.release_counter, "here": False}

    def _verified(self, given: dict[tuple[str, str], bytes]) -> tuple[verify.VerifiedImage, ...]:
        running = {serial: slots[0] for serial, slots in self.s["slots"].items()}
        installed = {serial: verify.InstalledImage(i["path"], i["release_counter"]) for serial, i in running.items()}
        now = datetime.fromtimestamp(self.clock[1] // 1000, UTC)
        try:
            return self.verifier.verify(given, now=now, installed=installed).images
        except errors.VerificationError as error:
            if error.code is not errors.AttackCode.MISSING:
                raise
        try:
            for repository, name in REPOSITORIES.items():  # P-META-12
                wanted = ["timestamp.json"]
                for file in wanted:
                    request = pb.FetchMetadataRequest(repository=repository, names=[file])
                    given[name, file] = self._call("FetchMetadata", request).files[0].content
                    listed = json.loads(given[name, file])["signed"].get("meta", {})
                    wanted += [f"{meta['version']}.{each}" for each, meta in listed.items()]
        except grpc.RpcError as failure:
            if failure.code() is not grpc.StatusCode.NOT_FOUND:
                raise
        return self.verifier.verify(given, now=now, installed=installed).images

    def _conditions(self) -> pb.Conditions:
        now = {"link_type": "unspecified", "battery_percent": 80, "parked": True} | self._read("conditions.json")
        return pb.Conditions(**now | {"link_type": f"LINK_TYPE_{now['link_type'].upper()}"})

    def _waits(self, a: Json) -> bool:
        """Whether the owner or a condition is waited for; each cause, and that it is gone, is told once."""
        now, ready, path = self._conditions(), a["phase"] == "ready", self.folder / "consent" / a["id"]
        said = path.read_text().strip() if path.exists() else ""
        if said == "declined":
            self._end(a["id"], "REJECTED", "consent_declined")
            return True
        wrong = {
            "link_metered": a["unmetered"] and now.metered,
            "consent_pending": ready and a["consent"] == pb.CONSENT_POLICY_REQUIRED and said != "agreed",
            "not_parked": ready and a["parked"] and not now.parked,
            "battery_low": ready and now.battery_percent < a["battery"],
        }
        cause = next((cause for cause, holds in wrong.items() if holds), "")
        if cause != a["cause"]:
            self._tell(a["id"], "DEFERRED" if cause else "DOWNLOAD_FINISHED" if ready else "DOWNLOAD_STARTED", cause)
            a["cause"] = cause
            self._save()
        return bool(cause)

    def _fetch(self, a: Json) -> None:
        image = next(image for image in a["images"] if not image["here"])
        path, length = self.state / "downloads" / image["sha256"], image["length"]
        path.touch()
        had = path.stat().st_size
        for base in a["bases"]:
            url = f"{base}/{names.image_file_name(image['path'], image['sha256'])}"
            request = urllib.request.Request(url, headers={"Range": f"bytes={path.stat().st_size}-"})
            try:
                reply = urllib.request.urlopen(request, timeout=30, context=self.tls)
                with reply, path.open("ab" if reply.status == 206 else "wb") as file:
                    while file.tell() <= length and (chunk := reply.read(1 << 16)):
                        file.write(chunk)
                        if self._now() >= max(self.poll_at, self.call_at):
                            self._poll()  # a withdrawal must not have to wait for a long download
                        if self.s["attempt"] is not a or self._waits(a):
                            return
                break
            except (OSError, HTTPException):
                continue
        have = path.stat().st_size
        self.broken = 0 if have > had else self.broken + 1
        self.fetch_at = self._now() + self._backoff_s(self.broken)  # P-IMAGE-3; of no matter when it is complete
        if have < length:
            return
        if have > length or digest(path) != image["sha256"]:
            self._end(a["id"], "REJECTED", "endless_data" if have > length else "arbitrary_software")
        else:
            image["here"], self.fetch_at = True, 0.0
            if all(each["here"] for each in a["images"]):
                a |= {"phase": "ready", "cause": ""}
                self._tell(a["id"], "DOWNLOAD_FINISHED")
            self._save()

    def _ask(self, a: Json) -> None:
        asked, agreed = self._now(), a["consent"] == pb.CONSENT_POLICY_REQUIRED
        request = pb.AuthorizeInstallRequest(attempt_id=a["id"], conditions=self._conditions(), consented=agreed)
        reply = self._call("AuthorizeInstall", request)
        again_s = reply.refusal.retry_after.ToTimedelta().total_seconds() or 5
        self.ask_at = self._now() + (again_s + random.uniform(0, min(again_s / 2, 600))) / self.scale
        ends_at = asked + reply.permit.valid_for.ToTimedelta().total_seconds() / self.scale
        if reply.HasField("refusal") and not reply.refusal.HasField("retry_after"):
            self._end(a["id"])
        elif reply.permit.attempt_id == a["id"] and not self._waits(a) and self._now() < ends_at:
            print(f"installing {a['id']}: {a['notes']}", flush=True)  # P-COND-5: the owner reads this
            a["phase"] = "installing"
            self._tell(a["id"], "INSTALL_STARTED")
            self._save()

    def _install(self, a: Json) -> None:
        """From the permit on, and again after a loss of power: write, switch, restart, check."""
        slots, ecus = self.s["slots"], self.state / "ecus"
        units = [(unit, image) for image in a["images"] for unit in image["units"]]
        if a["phase"] == "installing":
            try:
                for unit, image in units:
                    target = "b" if slots[unit][0]["slot"] == "a" else "a"
                    files.copy_atomically(self.state / "downloads" / image["sha256"], ecus / f"{unit}.{target}")
            except OSError:
                self._end(a["id"], "FAILED", "write_failed")
                return
            for unit, image in units:
                new = {key: image[key] for key in ("path", "length", "sha256", "release_counter")}
                slots[unit] = [new | {"slot": "b" if slots[unit][0]["slot"] == "a" else "a"}, slots[unit][0]]
            a["phase"] = "rebooting"
            self._tell(a["id"], "REBOOT_STARTED")
            self._save()
        elif all(digest(ecus / f"{unit}.{slots[unit][0]['slot']}") == image["sha256"] for unit, image in units):
            self._end(a["id"], "VERIFY_STARTED")
        else:
            slots |= {unit: slots[unit][1:] for unit, _ in units}
            self._end(a["id"], "ROLLED_BACK", "self_test_failed")


def digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    agent = Agent(Path(sys.argv[1]))
    while True:
        try:
            agent.step()
        except grpc.RpcError as error:
            print(f"{error.code().name}: {error.details()}", flush=True)
        time.sleep(0.05)
