"""What holds for a vehicle whatever the world does: replies lost, late or repeated, power cut, orders changed."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent_sim.actions import (
    AuthorizeCall,
    CallFailed,
    CheckInCall,
    FetchBroken,
    FetchMetadataCall,
    Input,
    SubmitManifestCall,
)
from agent_sim.car import Car, Download, Errand, Save
from agent_sim.car_state import CarState
from agent_sim.faults import Fault, FaultKind
from agent_sim.messages import Conditions, Consent, Event, PermitReply, Preconditions
from agent_sim.owner import Manner, Owner
from agent_sim.persisted import Phase
from tests.agent_sim.builders import NEW, NEW_BRAKE, START, Road, StandIn, a_car
from tests.agent_sim.fake_orchestrator import HOUR_MS, FakeOrchestrator

WANTED = Preconditions(unmetered=True, parked=True, battery_percent_min=40)
FIT = Conditions(battery_percent=40)
STANDS = (FIT, FIT, Conditions(metered=True), Conditions(battery_percent=39), Conditions(parked=False))
FAULTS = (Fault(FaultKind.POWER_LOSS, probability=0.3), Fault(FaultKind.BOOT_FAILURE, probability=0.3))


class Vehicle(RuleBasedStateMachine):
    """A car and an orchestrator with everything between them in the hands of Hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.orchestrator = FakeOrchestrator(images=(NEW, NEW_BRAKE), attempt_id="a0")
        self.world = StandIn()
        self.owner = Owner()
        self.pending: list[Errand] = []
        self.answers: list[Input] = []
        self.told: dict[tuple[str, int], Event] = {}
        self.offers = 0
        self.installing: set[str] = set()

    @initialize(manner=st.sampled_from(Manner), minutes=st.integers(0, 120), consent=st.sampled_from(Consent))
    def vehicle_leaves_the_factory(self, manner: Manner, minutes: int, consent: Consent) -> None:
        self.owner = Owner(manner, after_ms=minutes * 60_000, again_after_ms=2 * HOUR_MS, times=2)
        self.orchestrator.consent = consent
        self.orchestrator.preconditions = WANTED
        self.road = Road(self.a_car(), self.orchestrator)
        self.take(self.road.car.start(self.road.now))

    def a_car(self, state: CarState | None = None) -> Car:
        return a_car(*FAULTS, state=state, owner=self.owner, world=self.world)

    def judge(self, call: AuthorizeCall) -> None:
        """Nobody asks for a permit without the owner's yes and the conditions that were asked for."""
        progress = self.road.car.state.agent.progress
        assert progress is not None
        said_yes = (call.attempt_id, "yes") in self.road.car.state.answers
        assert call.consented == said_yes
        assert said_yes or progress.consent is not Consent.REQUIRED
        self.assert_fit(call.conditions, progress.preconditions)

    def assert_fit(self, conditions: Conditions, wanted: Preconditions) -> None:
        assert not (wanted.unmetered and conditions.metered)
        assert conditions.parked or not wanted.parked
        assert conditions.battery_percent >= wanted.battery_percent_min

    def note_installs(self) -> None:
        """The moment at which slots are erased is judged by what holds at that moment."""
        progress = self.road.car.state.agent.progress
        if progress is None or progress.phase is not Phase.INSTALLING or progress.attempt_id in self.installing:
            return
        self.installing.add(progress.attempt_id)
        assert progress.attempt_id in self.orchestrator.permits
        self.assert_fit(self.world.now_are, progress.preconditions)
        if progress.consent is Consent.REQUIRED:
            assert (progress.attempt_id, "yes") in self.road.car.state.answers

    def take(self, errands: list[Errand]) -> None:
        self.note_installs()
        for errand in errands:
            if isinstance(errand, AuthorizeCall):
                self.judge(errand)
            if isinstance(errand, Download):
                wanted = self.road.car.state.agent.progress
                assert wanted is None or not (wanted.preconditions.unmetered and self.world.now_are.metered)
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
        if isinstance(errand, CheckInCall | SubmitManifestCall | AuthorizeCall | FetchMetadataCall):
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

    @rule(hours=st.integers(1, 24), conditions=st.sampled_from(STANDS))
    def world_is_kind(self, hours: int, conditions: Conditions) -> None:
        """Every errand is done at once, so that runs get far enough to install."""
        self.world.now_are, self.orchestrator.permit = conditions, None
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
        self.road.car = self.a_car(self.road.saved)
        self.take(self.road.car.start(self.road.now))

    @rule(conditions=st.sampled_from(STANDS))
    def vehicle_is_driven_or_parked(self, conditions: Conditions) -> None:
        self.world.now_are = conditions

    @rule(consent=st.sampled_from(Consent), strict=st.booleans())
    def plan_asks_for_more_or_less(self, consent: Consent, strict: bool) -> None:
        self.orchestrator.consent = consent
        self.orchestrator.preconditions = WANTED if strict else Preconditions()

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

    @rule(retry_hours=st.sampled_from((None, 2)))
    def permits_are_refused(self, retry_hours: int | None) -> None:
        later = None if retry_hours is None else retry_hours * HOUR_MS
        self.orchestrator.permit = PermitReply(False, "", reason="test", retry_after_ms=later)

    @rule()
    def permits_are_given(self) -> None:
        self.orchestrator.permit = None

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
    def what_the_owner_declined_is_not_installed(self) -> None:
        declined = {attempt_id for attempt_id, answer in self.road.car.state.answers if answer == "no"}
        assert not declined & set(self.road.car.state.installs)

    @invariant()
    def units_agree(self) -> None:
        """Primary and Secondary never run different releases, whatever was interrupted."""
        new = {ecu.running.sha256 in (NEW.sha256, NEW_BRAKE.sha256) for ecu in self.road.car.state.agent.ecus}
        assert len(new) == 1

    def teardown(self) -> None:
        """When the world is kind again, everything that was told arrives, once and in order."""
        if not hasattr(self, "road"):
            return
        self.world.now_are = Conditions()
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
    max_examples=120,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
