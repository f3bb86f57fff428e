"""An agent and the answers that it gets, one step at a time, and the stages of an update that tests begin from."""

from __future__ import annotations

from agent_sim.actions import (
    Action,
    Actions,
    AskOwner,
    AuthorizeCall,
    CheckInCall,
    FetchImage,
    FetchMetadataCall,
    ImageFetched,
    MetadataFetched,
    OwnerAnswer,
    OwnerAnswered,
    PermitReplied,
    PollReplied,
    SlotsWritten,
    Verified,
    Verify,
    WriteSlots,
)
from agent_sim.agent import Agent
from agent_sim.messages import EventKind, InstallDirective, MetadataVersions, PermitReply, PollReply
from agent_sim.persisted import Phase
from tests.agent_sim.builders import NEW, NEW_BRAKE, START, an_agent
from tests.agent_sim.fake_orchestrator import HOUR_MS

OFFER = InstallDirective("a1", "r1", "1.1.0", ("https://mirror.test",))
VERSIONS = MetadataVersions(1, 2, 2, 2)


def the(kind: type, actions: Actions) -> Action:
    """The only action of a kind."""
    (found,) = [action for action in actions if isinstance(action, kind)]
    return found


def a_reply(
    call: CheckInCall, directive: object = None, *, acknowledged: int | None = None, wanted: bool = False
) -> PollReply:
    """The answer to `call`; everything it told is acknowledged unless said otherwise."""
    if acknowledged is None:
        acknowledged = max((event.number for event in call.poll.events), default=0)
    return PollReply(HOUR_MS, acknowledged, wanted, directive)  # type: ignore[arg-type]


class Talk:
    """An agent and the answers it gets, one step at a time."""

    def __init__(self, agent: Agent | None = None) -> None:
        self.agent = agent or an_agent()
        self.now = START
        self.question: AskOwner | None = None
        self.offer = OFFER
        self.actions = self.agent.start(self.now)

    def polled(self, directive: object = None, *, acknowledged: int | None = None, wanted: bool = False) -> Talk:
        while not self.calls:
            self.due()
        if isinstance(directive, InstallDirective):
            self.offer = directive
        call = the(CheckInCall, self.actions)
        reply = a_reply(call, directive, acknowledged=acknowledged, wanted=wanted)
        self.actions = self.agent.handle(PollReplied(call.token, reply), self.now)
        return self

    def verified(self) -> Talk:
        token = the(Verify, self.actions).token
        self.actions = self.agent.handle(Verified(token, (NEW, NEW_BRAKE), VERSIONS, VERSIONS), self.now)
        return self

    def refetched(self) -> Talk:
        call = the(FetchMetadataCall, self.actions)
        self.actions = self.agent.handle(MetadataFetched(call.token, ()), self.now)
        return self

    def fetched(self) -> Talk:
        """Both images; the check-in that tells of the start is answered on the way."""
        news = the(CheckInCall, self.actions)
        fetch = the(FetchImage, self.actions)
        self.agent.handle(PollReplied(news.token, a_reply(news, self.offer)), self.now)
        self.actions = self.agent.handle(ImageFetched(fetch.token), self.now)
        fetch = the(FetchImage, self.actions)
        self.actions = self.agent.handle(ImageFetched(fetch.token), self.now)
        self.question = next((action for action in self.actions if isinstance(action, AskOwner)), None)
        return self

    @property
    def calls(self) -> bool:
        """Whether it checks in just now."""
        return any(isinstance(action, CheckInCall) for action in self.actions)

    def on(self) -> Talk:
        """Whatever comes next: its poll is answered, or time passes."""
        return self.polled(self.offer) if self.calls else self.due()

    def due(self) -> Talk:
        """Time passes until the agent is due."""
        assert self.agent.due_at is not None
        self.now = max(self.now, self.agent.due_at)
        self.actions = self.agent.handle_due(self.now)
        return self

    def owner(self, answer: OwnerAnswer, *, ask_again_at: int = 0) -> Talk:
        """The owner answers the question that was put last."""
        assert self.question is not None
        self.actions = self.agent.handle(OwnerAnswered(self.question.token, answer, ask_again_at), self.now)
        return self

    def permitted(self) -> Talk:
        call = the(AuthorizeCall, self.actions)
        reply = PermitReply(True, call.attempt_id, valid_for_ms=900_000)
        self.actions = self.agent.handle(PermitReplied(call.token, reply), self.now)
        return self

    def written(self) -> Talk:
        write, news = the(WriteSlots, self.actions), the(CheckInCall, self.actions)
        self.agent.handle(PollReplied(news.token, a_reply(news, self.offer)), self.now)
        self.actions = self.agent.handle(SlotsWritten(write.token), self.now)
        return self

    @property
    def phase(self) -> Phase | None:
        return self.agent.state.progress.phase if self.agent.state.progress else None

    @property
    def told(self) -> list[EventKind]:
        return [event.kind for event in self.agent.state.outbox.events]


def at_checking() -> Talk:
    return Talk().polled(OFFER)


def at_downloading() -> Talk:
    return at_checking().verified()


def at_downloaded() -> Talk:
    return at_downloading().fetched().polled(OFFER)


def at_installing() -> Talk:
    return at_downloaded().permitted()


def at_rebooting() -> Talk:
    return at_installing().written()
