"""What holds for a vehicle whatever the world does: replies lost, late or repeated, power cut, orders changed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_sim.actions import AuthorizeCall, CallFailed, CheckInCall, FetchBroken, Input, SubmitManifestCall
from agent_sim.car import Download, Errand, Save
from agent_sim.faults import Fault, FaultKind
from agent_sim.messages import Event, PermitReply
from tests.agent_sim.builders import NEW, NEW_BRAKE, START, Road, a_car
from tests.agent_sim.fake_orchestrator import HOUR_MS, FakeOrchestrator

FAULTS = (Fault(FaultKind.POWER_LOSS, probability=0.3), Fault(FaultKind.BOOT_FAILURE, probability=0.3))


class Vehicle(RuleBasedStateMachine):
    """A car and an orchestrator with everything between them in the hands of Hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.orchestrator = FakeOrchestrator(images=(NEW, NEW_BRAKE), attempt_id="a0")
        self.road = Road(a_car(*FAULTS), self.orchestrator)
        self.pending: list[Errand] = []
        self.answers: list[Input] = []
        self.told: dict[tuple[str, int], Event] = {}
        self.offers = 0
        self.take(self.road.car.start(self.road.now))

    def take(self, errands: list[Errand]) -> None:
        for errand in errands:
            if isinstance(errand, Save):
                self.road.answer(errand)
            else:
                self.pending.append(errand)
        outbox = self.road.car.state.agent.outbox
        for event in outbox.events:
            assert self.told.setdefault((outbox.outbox_id, event.number), event) == event

    def give(self, answer: Input | None) -> None:
        if answer is not None:
            self.answers.append(answer)
            self.take(self.road.car.handle(answer, self.road.now))

    @rule(hours=st.integers(0, 72))
    def time_passes(self, hours: int) -> None:
        until = self.road.now + hours * HOUR_MS
        for _ in range(50):
            due_at = self.road.car.due_at
            if due_at is None or due_at > until:
                break
            self.road.now = max(self.road.now, due_at)
            self.take(self.road.car.handle_due(self.road.now))
        self.road.now = max(self.road.now, until)

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def errand_is_done(self, data: st.DataObject) -> None:
        errand = self.pending.pop(data.draw(st.integers(0, len(self.pending) - 1)))
        self.give(self.road.answer(errand))

    @precondition(lambda self: self.pending)
    @rule(done=st.booleans())
    def errand_fails(self, done: bool) -> None:
        """With `done`, the orchestrator did it and only the reply is lost."""
        errand = self.pending.pop(0)
        if isinstance(errand, CheckInCall | SubmitManifestCall | AuthorizeCall):
            if done:
                self.road.answer(errand)
            self.give(CallFailed(errand.token))
        elif isinstance(errand, Download):
            self.give(FetchBroken(errand.fetch.token, errand.fetch.image.length // 2))
        else:
            self.give(self.road.answer(errand))

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def answer_comes_again(self, data: st.DataObject) -> None:
        answer = data.draw(st.sampled_from(self.answers))
        self.take(self.road.car.handle(answer, self.road.now))

    @rule(hours=st.integers(1, 24))
    def world_is_kind(self, hours: int) -> None:
        """Every errand is done at once, so that runs get far enough to install."""
        pending, self.pending = self.pending, []
        self.drain(pending)
        until = self.road.now + hours * HOUR_MS
        while (due_at := self.road.car.due_at) is not None and due_at <= until:
            self.road.now = max(self.road.now, due_at)
            self.drain(self.road.car.handle_due(self.road.now))
        self.road.now = until

    def drain(self, errands: list[Errand]) -> None:
        self.take(errands)
        for _ in range(1000):
            if not self.pending:
                return
            self.give(self.road.answer(self.pending.pop(0)))
        raise AssertionError("the car never comes to rest")

    @rule()
    def simulator_is_killed(self) -> None:
        self.pending.clear()
        self.answers.clear()
        self.road.car = a_car(*FAULTS, state=self.road.saved)
        self.take(self.road.car.start(self.road.now))

    @rule()
    def attempt_is_offered(self) -> None:
        if not self.orchestrator.attempt_id:
            self.offers += 1
            self.orchestrator.attempt_id = f"a{self.offers}"
        self.orchestrator.withdrawn = ""

    @rule()
    def attempt_times_out(self) -> None:
        """The orchestrator gives up by itself, also on an attempt that installs."""
        self.orchestrator.attempt_id = ""

    @precondition(lambda self: len(self.pending) > 1)
    @rule()
    def latest_errand_is_done_first(self) -> None:
        """Work goes on while an older call is under way."""
        self.give(self.road.answer(self.pending.pop()))

    @precondition(lambda self: self.orchestrator.attempt_id)
    @rule()
    def attempt_is_withdrawn(self) -> None:
        if self.orchestrator.attempt_id not in self.orchestrator.permits:
            self.orchestrator.withdrawn = self.orchestrator.attempt_id
            self.orchestrator.attempt_id = ""

    @rule(refused=st.booleans(), final=st.booleans())
    def permits_change(self, refused: bool, final: bool) -> None:
        later = None if final else 2 * HOUR_MS
        self.orchestrator.permit = PermitReply(False, "", reason="test", retry_after_ms=later) if refused else None

    @invariant()
    def nothing_is_lost_or_reordered(self) -> None:
        for outbox_id, events in self.orchestrator.applied.items():
            for number, event in enumerate(events, start=1):
                assert event == self.told[outbox_id, number]

    @invariant()
    def nothing_is_forgotten_before_it_is_durable(self) -> None:
        outbox = self.road.car.state.agent.outbox
        durable = len(self.orchestrator.applied.get(outbox.outbox_id, []))
        forgotten = outbox.next_number - 1 - len(outbox.events)
        assert forgotten <= durable

    @invariant()
    def nothing_is_installed_without_a_permit(self) -> None:
        installs = self.road.car.state.installs
        assert len(set(installs)) == len(installs)
        assert set(installs) <= set(self.orchestrator.permits)
        if any(ecu.running.sha256 == NEW.sha256 for ecu in self.road.car.state.agent.ecus):
            assert self.orchestrator.permits

    @invariant()
    def units_agree(self) -> None:
        """Primary and Secondary never run different releases, whatever was interrupted."""
        new = {ecu.running.sha256 in (NEW.sha256, NEW_BRAKE.sha256) for ecu in self.road.car.state.agent.ecus}
        assert len(new) == 1

    def teardown(self) -> None:
        """When the world is kind again, everything that was told arrives, once and in order."""
        self.orchestrator.permit = None
        self.orchestrator.attempt_id = self.orchestrator.withdrawn = ""
        pending, self.pending = self.pending, []
        self.road.work(pending)
        self.road.run(until=self.road.now - START + 60 * 24 * HOUR_MS)
        outbox = self.road.car.state.agent.outbox
        assert not outbox.events
        assert len(self.orchestrator.applied[outbox.outbox_id]) == outbox.next_number - 1
        assert self.road.car.settled
        assert self.orchestrator.manifests[-1]["running"] == {
            ecu.serial: ecu.running.sha256 for ecu in self.road.car.state.agent.ecus
        }


TestVehicle = Vehicle.TestCase
TestVehicle.settings = settings(
    max_examples=50,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
