"""A whole vehicle agent, to read beside docs/agent-protocol.md: it updates the files of FOLDER/state/ecus. Linux only.

FOLDER is a provisioning folder (docs/conform.md). What is remembered is FOLDER/state/agent.json, replaced whole and
synced before anything is sent or done. What every agent needs alike is in `signing`.
"""

import json
import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from outrider.v1 import vehicle_pb2 as pb

from signing import calls, errors, files, notes, outbox, primary, slots

BEGUN = ("installing", "rebooting")
now_s = partial(time.clock_gettime, time.CLOCK_BOOTTIME)  # it runs on while the vehicle sleeps


class Agent:
    """The Primary of one vehicle. `s` is what survives, `a` the attempt in it; `..._at` are seconds by `now_s`."""

    def __init__(self, folder: Path) -> None:
        state, self.memory = folder / "state", folder / "state" / "agent.json"
        self.primary = primary.Primary(folder, state, time.monotonic)
        fresh: Any = {"manifest": {}, "fleet_ms": 0, "attempt": None, "finished": [], "outbox": {}, "slots": {}}
        self.s: Any = json.loads(self.memory.read_bytes()) if self.memory.exists() else fresh
        self.calls = calls.Calls(folder, state, self.s["fleet_ms"], now_s=now_s, today=partial(datetime.now, UTC))
        self.outbox = outbox.Outbox(self.s["outbox"], self.calls.fleet_ms)
        self.slots = slots.Slots(state / "ecus", self.s["slots"], self.primary.factory)
        self.poll_at = self.calls.first_poll_at(news=not self.s["manifest"])
        self.ask_at, self.fetch_at, self.broken = 0.0, 0.0, 0
        self._save()

    def step(self) -> None:
        """Do what is due. News is told at once; a call that failed has set when the next may be made."""
        a = self.s["attempt"]
        if a and a["phase"] in BEGUN:
            self._install(a)
        elif a and a["phase"] == "downloading" and now_s() >= self.fetch_at and not self._waits(a):
            self._fetch(a)
        if not self.calls.due():
            return
        if self.outbox or now_s() >= self.poll_at:
            self._poll()
        elif self.s["manifest"] and not self.s["handed_in"]:
            self.s["handed_in"] = self.calls.hand_in(self.s["manifest"]["content"].encode())
            self._save()
            if not self.s["handed_in"]:
                self._attest()  # it will never be taken: sign a fresh one
        elif (a := self.s["attempt"]) and a["phase"] == "ready" and now_s() >= self.ask_at and not self._waits(a):
            self._ask(a)

    def _save(self) -> None:
        self.s["fleet_ms"] = self.calls.fleet_ms()
        files.write_atomically(self.memory, json.dumps(self.s).encode(), mode=0o600)

    def _end(self, attempt_id: str, kind: str = "", code: str = "") -> None:
        if self.s["attempt"] and self.s["attempt"]["id"] == attempt_id:
            self.s["attempt"] = None
        self.s["finished"] = [*self.s["finished"], attempt_id][-8:]
        if kind:
            self.outbox.tell(attempt_id, kind, code)
        self._attest(code if code in set(errors.AttackCode) else "")
        if not self.s["attempt"]:
            self.primary.discard()

    def _attest(self, attack: str = "") -> None:
        now, last = self.calls.fleet_ms(), self.s["manifest"].get("counter", 0)
        signed = self.primary.manifest(self.slots.running(), fleet_ms=now, last_counter=last, attack=attack)
        self.s |= {"manifest": asdict(signed), "handed_in": False}
        self._save()

    def _poll(self) -> None:
        held = {"manifest_sha256": self.s["manifest"].get("sha256", ""), **self.primary.versions()}
        request = pb.CheckInRequest(conditions=self.primary.conditions(), **held, **self.outbox.told())
        reply = self.calls.call("CheckIn", request)
        self.poll_at = self.calls.next_poll_at(reply.next_poll_after.seconds)
        self.outbox.acknowledge(reply.acknowledged_number)
        self.s["handed_in"] = not reply.manifest_wanted
        if not self.s["manifest"]:
            self._attest()
        if reply.directive.HasField("install"):
            self._take_up(reply.directive.install, reply)
        elif reply.directive.HasField("withdraw"):
            attempt_id, a = reply.directive.withdraw.attempt_id, self.s["attempt"]
            if attempt_id not in self.s["finished"] and not (a and a["id"] == attempt_id and a["phase"] in BEGUN):
                self._end(attempt_id, "WITHDRAWAL_OBEYED")
        self._save()

    def _take_up(self, directive: pb.InstallDirective, reply: pb.CheckInResponse) -> None:
        a, attempt_id, wishes = self.s["attempt"], directive.attempt_id, directive.SerializeToString().hex()
        if a and a["id"] == attempt_id:
            a["wishes"] = wishes  # a reminder; they may have changed
        elif attempt_id not in self.s["finished"] and not (a and a["phase"] in BEGUN):
            if a:
                self._end(a["id"])
            try:
                wanted = self.primary.verify(reply, fetch=self.calls.metadata, running=self.slots.running())
            except errors.VerificationError as error:
                self._end(attempt_id, "REJECTED", error.code)
            else:
                units = primary.to_json(wanted)
                self.s["attempt"] = {"id": attempt_id, "wishes": wishes, "phase": "downloading", "units": units}
                if self.slots.run(wanted):
                    self._end(attempt_id)  # all of it runs already

    def _wishes(self, a: Any) -> pb.InstallDirective:
        return pb.InstallDirective.FromString(bytes.fromhex(a["wishes"]))

    def _waits(self, a: Any) -> bool:
        """Whether the owner or a condition is waited for; each cause, and that it is gone, is told once."""
        wishes, now, said = self._wishes(a), self.primary.conditions(), self.primary.consent(a["id"])
        ready, needs = a["phase"] == "ready", wishes.preconditions
        if said == "declined":
            self._end(a["id"], "REJECTED", "consent_declined")
            return True
        wrong = {
            "link_metered": needs.unmetered and now.metered,
            "link_unsuitable": needs.link_types and now.link_type not in needs.link_types,
            "consent_pending": ready and wishes.consent == pb.CONSENT_POLICY_REQUIRED and said != "agreed",
            "not_parked": ready and needs.parked and not now.parked,
            "battery_low": ready and now.battery_percent < needs.battery_percent_min,
            "storage_low": ready and now.storage_free_bytes < needs.storage_free_bytes_min,
        }
        cause = next((cause for cause, holds in wrong.items() if holds), "")
        if cause != a.get("cause"):
            goes_on = "DOWNLOAD_FINISHED" if ready else "DOWNLOAD_STARTED"
            self.outbox.tell(a["id"], "DEFERRED" if cause else goes_on, cause)
            a["cause"] = cause
            self._save()
        return bool(cause)

    def _fetch(self, a: Any) -> None:
        wanted, bases = primary.from_json(a["units"]), self._wishes(a).image_base_urls
        try:
            got = self.primary.retrieve(wanted.values(), bases, lambda: self._goes_on(a))
        except errors.VerificationError as error:
            self._end(a["id"], "REJECTED", error.code)
        else:
            self.broken = 0 if got.received_bytes else self.broken + 1
            self.fetch_at = now_s() + self.calls.backoff_s(self.broken)
            if got.complete:
                a |= {"phase": "ready", "cause": ""}
                self.outbox.tell(a["id"], "DOWNLOAD_FINISHED")
                self._save()

    def _goes_on(self, a: Any) -> bool:
        if self.calls.due() and (self.outbox or now_s() >= self.poll_at):
            self._poll()  # a withdrawal must not have to wait for the end of a long download
        return self.s["attempt"] is a and not self._waits(a)

    def _ask(self, a: Any) -> None:
        asked_at, agreed = now_s(), self._wishes(a).consent == pb.CONSENT_POLICY_REQUIRED
        request = pb.AuthorizeInstallRequest(attempt_id=a["id"], conditions=self.primary.conditions(), consented=agreed)
        reply = self.calls.call("AuthorizeInstall", request)
        self.ask_at = self.calls.again_at(reply.refusal.retry_after.ToTimedelta().total_seconds() or 5)
        ends_at = asked_at + reply.permit.valid_for.ToTimedelta().total_seconds() / self.calls.scale
        if reply.HasField("refusal") and not reply.refusal.HasField("retry_after"):
            self._end(a["id"])
        elif reply.permit.attempt_id == a["id"] and not self._waits(a) and now_s() < ends_at:
            told = notes.suited(self._wishes(a).notes, self._wishes(a).notes_by_language, os.environ.get("LANG", ""))
            print(f"installing {a['id']}: {told}", flush=True)  # P-COND-5: the owner reads this
            a["phase"] = "installing"
            self.outbox.tell(a["id"], "INSTALL_STARTED")
            self._save()

    def _install(self, a: Any) -> None:
        """From the permit on, and again after a loss of power: write, restart into the other slots, check."""
        units = primary.from_json(a["units"])
        if a["phase"] == "installing":
            try:
                self.slots.write(units, self.primary.downloaded)
            except OSError:
                self._end(a["id"], "FAILED", "flash_write_failed")
            else:
                self.slots.switch(units)
                a["phase"] = "rebooting"
                self.outbox.tell(a["id"], "REBOOT_STARTED")
                self._save()
        elif self.slots.hold(units):
            self._end(a["id"], "VERIFY_STARTED")
        else:
            self.slots.switch_back(units)
            self._end(a["id"], "ROLLED_BACK", "self_test_failed")


if __name__ == "__main__":
    agent = Agent(Path(sys.argv[1]))
    while True:
        try:
            agent.step()
        except errors.CallFailedError as error:
            print(error, flush=True)
        time.sleep(0.05)
