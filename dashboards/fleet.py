"""The board of the fleet: what runs where, who calls, what became of whoever was reached."""

from __future__ import annotations

from dashboards.model import Board, Limit, Panel, Query, Section
from dashboards.variables import INSTALLATION

NOW = Section(
    "Now",
    (
        Panel(
            title="Vehicles",
            description="In the inventory, whether they ever called or not.",
            kind="stat",
            unit="short",
            queries=(Query('max(outrider_vehicles_registered{job="$job"})', "vehicles"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Check-ins",
            description="Polls a second that were answered. A fall means that vehicles cannot reach the service.",
            kind="stat",
            unit="reqps",
            queries=(Query('sum(rate(outrider_checkins_total{job="$job"}[$__rate_interval]))', "check-ins"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Rollouts under way",
            description="Running, held, paused or halted: started, and not over.",
            kind="stat",
            unit="short",
            queries=(
                Query(
                    'sum(max by (rollout) (outrider_rollout_status{job="$job", status=~"running|held|paused|halted"}))',
                    "rollouts",
                ),
            ),
            width=4,
            height=4,
        ),
        Panel(
            title="Held or halted",
            description="Rollouts that the gate has stopped. Held ones go on by themselves, halted ones need a person.",
            kind="stat",
            unit="short",
            queries=(
                Query('sum(max by (rollout) (outrider_rollout_status{job="$job", status=~"held|halted"}))', "rollouts"),
            ),
            width=4,
            height=4,
            limits=(Limit(1, "orange"),),
        ),
        Panel(
            title="Open cases",
            description="Vehicles that a rollout hurt, or may have, and that have not settled. "
            "`outrider case list` names them.",
            kind="stat",
            unit="short",
            queries=(Query('sum(max by (rollout) (outrider_cases_open{job="$job"}))', "cases"),),
            width=4,
            height=4,
            limits=(Limit(1, "orange"),),
        ),
        Panel(
            title="In flight",
            description="Attempts that hold a slot now, of every rollout.",
            kind="stat",
            unit="short",
            queries=(Query('sum(max by (rollout, region) (outrider_in_flight{job="$job"}))', "attempts"),),
            width=4,
            height=4,
        ),
    ),
)

VEHICLES = Section(
    "Vehicles",
    (
        Panel(
            title="Vehicles by region",
            description="As the inventory has them. The smallest of more than 50 regions are shown together.",
            kind="timeseries",
            unit="short",
            queries=(Query('sum by (region) (outrider_vehicles{job="$job"})', "{{region}}"),),
            stacked=True,
        ),
        Panel(
            title="Vehicles by release",
            description="What the last signed manifest of each proved; unproven when it sent none. "
            "The rarest of more than 20 releases are shown together.",
            kind="timeseries",
            unit="short",
            queries=(Query('sum by (version) (outrider_vehicles{job="$job"})', "{{version}}"),),
            stacked=True,
        ),
        Panel(
            title="Vehicles by region and release",
            description="The same two, crossed. A region that stays behind has a window, an approval or a limit to "
            "wait for, or vehicles that do not call.",
            kind="table",
            unit="short",
            queries=(Query('sum by (region, version) (outrider_vehicles{job="$job"})', "{{region}} {{version}}"),),
        ),
        Panel(
            title="Vehicles still to be reached",
            description="Vehicles that a plan is for and that do not run its release, by rollout. "
            "A flat line of a running rollout: see its board.",
            kind="timeseries",
            unit="short",
            queries=(Query('sum by (rollout) (outrider_vehicles_waiting{job="$job"})', "{{rollout}}"),),
        ),
    ),
)

CONTACT = Section(
    "Contact",
    (
        Panel(
            title="Polls by region",
            description="One region that falls alone points at a network, a DNS name or a route there. All at once "
            "point at the service.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query('sum by (region) (rate(outrider_contacts_total{job="$job"}[$__rate_interval]))', "{{region}}"),
            ),
        ),
        Panel(
            title="Polls against the day's mean",
            description="1 is as usual over the last day. The alert on silent regions looks at 0.2.",
            kind="timeseries",
            unit="none",
            queries=(
                Query(
                    'outrider:contacts:rate15m{job="$job"} / (outrider:contacts:rate1d{job="$job"} > 0)', "{{region}}"
                ),
            ),
        ),
        Panel(
            title="Check-ins by outcome",
            description="nothing: no rollout concerns the vehicle. granted: an attempt begins. refused: not now.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query('sum by (outcome) (rate(outrider_checkins_total{job="$job"}[$__rate_interval]))', "{{outcome}}"),
            ),
        ),
        Panel(
            title="Manifests",
            description="Signed reports of what vehicles run. Refused ones are replayed, forged, or of keys that the "
            "inventory does not know.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query('sum by (outcome) (rate(outrider_manifests_total{job="$job"}[$__rate_interval]))', "{{outcome}}"),
            ),
        ),
    ),
)

OUTCOMES = Section(
    "Outcomes, of every rollout",
    (
        Panel(
            title="Attempts by state",
            description="Where the vehicles stand that rollouts have reached.",
            kind="timeseries",
            unit="short",
            queries=(Query('sum by (state) (outrider_attempts{job="$job"}) > 0', "{{state}}"),),
        ),
        Panel(
            title="Silent beyond expectation, by region",
            description="Exposures without word at a checkpoint, less those that would be silent as usual. Around 0 is "
            "well; vehicles that an update broke may show here and nowhere else.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(
                    'sum by (region, checkpoint) (outrider_silent{job="$job"})'
                    ' - sum by (region, checkpoint) (outrider_silence_expected{job="$job"})',
                    "{{region}} at {{checkpoint}}",
                ),
            ),
            lowest=None,
        ),
        Panel(
            title="Open cases by rollout",
            description="A step is where to look: `outrider case list --rollout NAME`.",
            kind="timeseries",
            unit="short",
            queries=(Query('max by (rollout) (outrider_cases_open{job="$job"})', "{{rollout}}"),),
        ),
        Panel(
            title="Rollouts by status",
            description="How many stand where.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(
                    'sum by (status) (max by (rollout, status) (outrider_rollout_status{job="$job"})) > 0', "{{status}}"
                ),
            ),
            stacked=True,
        ),
    ),
)

FLEET = Board(
    uid="outrider-fleet",
    title="Outrider / Fleet",
    description="What runs where, who calls, and what became of whoever a rollout reached.",
    variables=(INSTALLATION,),
    sections=(NOW, VEHICLES, CONTACT, OUTCOMES),
)
