"""The live page of a watch: fits every terminal, says what matters at the smallest, grows with the larger."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from outrider.v1.case_pb2 import ListCasesResponse
from outrider.v1.ledger_pb2 import LedgerEntry, ListLedgerEntriesResponse
from outrider.v1.rollout_pb2 import REGION_PHASE_ROLLING, AgeGroup, RegionProgress, Rollout
from rich.console import Console

from orchestrator.cli.client import Identity, OperatorClient
from orchestrator.cli.watch_facts import Extras
from orchestrator.cli.watch_page import Facts, WatchPage
from tests.cli.answers import a_brake, a_cell, a_gate, a_rollout, a_signal, ago, an_age_group
from tests.cli.server import FLEET_TIME, OperatorServer
from tests.cli.test_story import STORY

INPUTS = {"q_a0": 0.05, "q_a1": 0.043, "young": 12, "blast_budget": 20, "failure_ratio_max": 0.01}
SIZES = [(80, 24), (60, 15), (100, 30), (200, 60), (40, 8)]


def a_page(width: int, height: int, rollout: Rollout, **changes: object) -> list[str]:
    """The lines of the page on a terminal of that size."""
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    facts = Facts(rollout=rollout, now=rollout.fleet_time, events=STORY, open_cases=3, **changes)  # type: ignore[arg-type]
    with console.capture() as capture:
        console.print(WatchPage(facts))
    return capture.get().splitlines()


def a_large_rollout() -> Rollout:
    """Twelve regions with four variants each, held, one region wanting an approval."""
    regions = [f"region-{number:02}" for number in range(12)]
    progress = [
        RegionProgress(region=region, phase=REGION_PHASE_ROLLING, wave=1, wave_start_time=ago(hours=5))
        for region in regions
    ]
    progress[9].approval_wanted = "early"
    cells = [a_cell(region=region, hardware=f"gen{n}", failed=0) for region in regions for n in range(4)]
    cells[30].failed = 7
    return a_rollout("HELD", regions=progress, cells=cells, gate=a_gate("HOLD", inputs=INPUTS))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("rollout", [a_rollout(gate=a_gate(inputs=INPUTS)), a_large_rollout()], ids=["small", "large"])
def test_page_never_exceeds_its_terminal(width: int, height: int, rollout: Rollout) -> None:
    """A page that scrolls flickers and hides its head."""
    lines = a_page(width, height, rollout)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert rollout.name.removeprefix("rollouts/") in lines[0]
    assert "Ctrl-C leaves" in lines[-1]


def test_smallest_usual_terminal_shows_everything_that_decides() -> None:
    """Status, bars, regions, strata, exposure, harm beside what is normal, the gate, the last decision: on 80 x 24."""
    page = "\n".join(a_page(80, 24, a_rollout("HELD", gate=a_gate("HOLD", inputs=INPUTS))))
    for words in (
        "▲ held",
        "2031-04-05 06:07:08 UTC",
        "60 of 120 done (50%), 15 under way",
        "✓ canary 2/2",
        "▶ early 1/2",
        "20 exposures, 12 so far",
        "eu     gen1         40   20      5      25    ✗ 2    ✗ 3/1.0      10",
        "exposed 75, 12 of them young (budget 20); 17 more may be now; 3 open cases",
        "failed 6 (8 %, limit 1 %); silent 9 of 60 aged, expected 3.0",
        "gate ▲ hold failed (2) of 25 exposed [failures_evalue",
        "aborted by bob",
    ):
        assert words in page, words


def test_what_is_hurt_and_what_waits_for_a_person_is_not_cut() -> None:
    """Twelve regions do not fit 24 lines; the stratum with failures and the region that wants an approval must."""
    page = a_page(80, 24, a_large_rollout())
    assert [line for line in page if line.startswith("region-07") and "✗ 7" in line]
    assert [line for line in page if line.startswith("region-09") and "approval of wave early" in line]
    assert [line for line in page if "outrider rollout approve spring-1-1-0" in line]
    assert [line for line in page if line.startswith("+")]


def test_what_stands_still_fits_the_smallest_usual_terminal() -> None:
    """A halted variant of a running rollout must not be found by chance; brakes leave room for tables."""
    brakes = [a_brake(f"eu/gen{number}", "HELD") for number in range(3)] + [a_brake("us/gen1")]
    brakes.append(a_brake("us/gen2", "HELD", final=True))
    signals = [a_signal(), a_signal("codes", 0.3, scope="eu", overdue=True)]
    rollout = a_rollout("HELD", brakes=brakes, signals=signals, hold_final=True, gate=a_gate(inputs=INPUTS))
    lines = a_page(80, 24, rollout)
    page = "\n".join(lines)
    assert len(lines) <= 24
    for words in (
        "▲ the hold will not clear by itself",
        "■ halted us/gen1 for 2 h: 5 of 25 exposed failed",
        "▲ held us/gen2 for 2 h, waits for a person: 5 of 25",
        "and 3 more parts stand still",
        "▲ signals: tow_rate 2.4, codes overdue in eu",
        "eu     gen1",
    ):
        assert words in page, words


def test_controls_stand_beside_silence() -> None:
    """Nine silent of sixty are nothing to wake up for where six of forty would be anyway."""
    cell = a_cell(age_groups=[an_age_group(24, 60, 9, 40, 6)])
    page = "\n".join(a_page(80, 24, a_rollout(cells=[cell], gate=a_gate(inputs=INPUTS))))
    assert "silent 9 of 60, controls 6 of 40" in page


def test_a_long_reason_gives_way_before_what_stands_beside_it() -> None:
    """Which region, in which phase and wave, must be read whole; the end of a sentence can be looked up."""
    rollout = a_rollout(gate=a_gate(inputs=INPUTS))
    rollout.regions[0].waiting_for = "wave early has 1 of at least 20 exposures older than 30 min, and soaks on"
    page = a_page(80, 24, rollout)
    assert [line for line in page if line.startswith("eu     ▶ rolling early   5 h   wave early has 1 of")]


def test_colour_never_stands_alone() -> None:
    """On paper, and for one in twelve men, the page says the same: failures and silence carry a mark."""
    healthy = a_cell(failed=0, age_groups=[AgeGroup(exposed=20, silent=1)])
    page = "\n".join(a_page(100, 30, a_rollout(cells=[healthy, a_cell(hardware="gen2")], gate=a_gate(inputs=INPUTS))))
    well, hurt = (line for line in page.splitlines() if line.startswith("eu") and "gen" in line)
    assert "✗" not in well
    assert hurt.count("✗") == 2


def test_trouble_with_the_connection_is_on_the_page() -> None:
    """A page that is silently old is worse than none."""
    lines = a_page(80, 24, a_rollout(), trouble="cannot reach the orchestrator; trying again (2 of 10) ...")
    assert "○ waits" in lines[0]
    assert "trying again (2 of 10)" in lines[-1]


def test_extras_follow_the_ledger_and_the_fleet_clock(server: OperatorServer, data: Path) -> None:
    """Each look takes up where the last one ended, shows nothing twice, and moves the clock on."""
    first = ListLedgerEntriesResponse(entries=STORY[:2], next_page_token="9")
    then = ListLedgerEntriesResponse(entries=STORY[2:])
    server.will_answer("ListLedgerEntries", first, then)
    server.will_answer("ListCases", ListCasesResponse(open_count=4))
    looks: list[tuple[Sequence[LedgerEntry], int | None, Timestamp | None]] = []
    enough = threading.Event()

    def found(events: Sequence[LedgerEntry], open_cases: int | None, now: Timestamp | None) -> None:
        looks.append((events, open_cases, now))
        enough.set()

    identity = Identity.load(data / "operators" / "admin")
    with OperatorClient(
        address=server.address, identity=identity, timeout_s=5, wait=lambda _: None, note=lambda _: None
    ) as client:
        extras = Extras(client, "rollouts/spring-1-1-0", found)
        with extras:
            assert enough.wait(10)
        extras.look()
    for events, open_cases, now in looks:
        assert ([entry.number for entry in events], open_cases) == ([3, 9, 70, 99], 4)
        assert now is not None
        assert now.seconds == int(FLEET_TIME.timestamp())
    tokens = [request.page_token for request in server.asked("ListLedgerEntries")]
    assert tokens == ["", *itertools.repeat("9", len(tokens) - 1)]


def test_extras_that_cannot_be_had_leave_the_page_alone(server: OperatorServer, data: Path) -> None:
    """An older server has no ledger service; watching goes on without the last decisions."""
    identity = Identity.load(data / "operators" / "admin")
    with (
        OperatorClient(
            address=server.address, identity=identity, timeout_s=5, wait=lambda _: None, note=lambda _: None
        ) as client,
        Extras(client, "rollouts/spring", lambda *_: pytest.fail("nothing was found")),
    ):
        pass
