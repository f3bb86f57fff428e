"""The board of the service: are calls answered, does the evaluator look, is everything kept, what ends soon?"""

from __future__ import annotations

from dashboards.model import Board, Limit, Panel, Query, Section
from dashboards.variables import INSTALLATION

HANDLED = "outrider_grpc_server_handled_total"
HANDLING = "outrider_grpc_server_handling_seconds_bucket"
DAY_S = 86_400


def quantile(share: float, metric: str, *, by: str = "", matching: str = "") -> str:
    """An expression for a quantile of a histogram over the scrape's interval.

    Args:
        share: Within 0 and 1.
        metric: Name of the buckets.
        by: Label that is told apart; none when empty.
        matching: More matchers.
    """
    groups = f"le, {by}" if by else "le"
    selector = f'job="$job", {matching}' if matching else 'job="$job"'
    return f"histogram_quantile({share:g}, sum by ({groups}) (rate({metric}{{{selector}}}[$__rate_interval])))"


NOW = Section(
    "Now",
    (
        Panel(
            title="Version",
            description="What runs. Two at once while workers are replaced.",
            kind="stat",
            unit="none",
            queries=(Query('max by (version) (outrider_build_info{job="$job"})', "{{version}}"),),
            width=4,
            height=4,
            by_name=True,
        ),
        Panel(
            title="Age of the last evaluator tick",
            description="Grants and permits stop by themselves when this exceeds 10 s.",
            kind="stat",
            unit="s",
            queries=(Query('time() - max(outrider_evaluator_last_tick_timestamp_seconds{job="$job"})', "age"),),
            width=4,
            height=4,
            limits=(Limit(10, "orange"), Limit(30, "red")),
        ),
        Panel(
            title="Store answers",
            description="1 when every process that asks reaches it. At 0 vehicles are answered UNAVAILABLE.",
            kind="stat",
            unit="none",
            queries=(Query('min(outrider_store_up{job="$job"})', "up"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Store syncs",
            description="1 when what is acknowledged is on disk, by whoever guarantees it. At 0 a crash can lose it.",
            kind="stat",
            unit="none",
            queries=(Query('min by (by) (outrider_store_durable{job="$job"})', "by {{by}}"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Journal lag",
            description="They stay in the store until the ledger takes them. None is lost.",
            kind="stat",
            unit="short",
            queries=(Query('max(outrider_journal_lag_entries{job="$job"})', "entries"),),
            width=4,
            height=4,
            limits=(Limit(1_000, "orange"), Limit(5_000, "red")),
        ),
        Panel(
            title="Check-ins not answered",
            description="Of the last hour, by our fault. The objective is 0.1 % over 30 days.",
            kind="stat",
            unit="percentunit",
            queries=(Query('outrider:checkin_errors:ratio_rate1h{job="$job"}', "not answered"),),
            width=4,
            height=4,
            limits=(Limit(0.001, "orange"), Limit(0.0144, "red")),
        ),
    ),
)

CALLS = Section(
    "Calls: rate, errors, duration",
    (
        Panel(
            title="Calls by method",
            description="Answered a second. CheckIn is the polls; they follow the day of the fleet.",
            kind="timeseries",
            unit="reqps",
            queries=(Query(f'sum by (method) (rate({HANDLED}{{job="$job"}}[$__rate_interval]))', "{{method}}"),),
        ),
        Panel(
            title="Answers that are not OK",
            description="By code. UNAVAILABLE and INTERNAL are ours, the others mostly the caller's.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query(
                    f'sum by (method, code) (rate({HANDLED}{{job="$job", code!="OK"}}[$__rate_interval]))',
                    "{{method}} {{code}}",
                ),
            ),
        ),
        Panel(
            title="Time to answer a check-in",
            description="Median and 99th percentile. An acknowledgement waits for the disk.",
            kind="timeseries",
            unit="s",
            queries=(
                Query(quantile(0.5, HANDLING, matching='method="CheckIn"'), "median"),
                Query(quantile(0.99, HANDLING, matching='method="CheckIn"'), "99 %"),
            ),
        ),
        Panel(
            title="Time to answer, 99th percentile",
            description="By method.",
            kind="timeseries",
            unit="s",
            queries=(Query(quantile(0.99, HANDLING, by="method"), "{{method}}"),),
        ),
        Panel(
            title="Budget burn of check-ins",
            description="Share not answered over the objective: 1 spends a month's budget in a month. "
            "Somebody is paged from 14.4 (1 h) or 6 (6 h) on.",
            kind="timeseries",
            unit="none",
            queries=tuple(
                Query(f'outrider:checkin_errors:ratio_rate{window}{{job="$job"}} / 0.001', window)
                for window in ("5m", "1h", "6h", "3d")
            ),
            limits=(Limit(1, "orange"), Limit(14.4, "red")),
        ),
        Panel(
            title="Requests refused at the edge",
            description="By reason: too large, too many, not in the inventory, revoked. Often one vehicle gone wild.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query(
                    'sum by (reason) (rate(outrider_refused_requests_total{job="$job"}[$__rate_interval]))',
                    "{{reason}}",
                ),
            ),
        ),
    ),
)

EVALUATOR = Section(
    "Evaluator and ledger",
    (
        Panel(
            title="Time of a tick",
            description="Median and 99th percentile. It grows with rollouts and changes, not with the fleet.",
            kind="timeseries",
            unit="s",
            queries=(
                Query(quantile(0.5, "outrider_evaluator_tick_seconds_bucket"), "median"),
                Query(quantile(0.99, "outrider_evaluator_tick_seconds_bucket"), "99 %"),
            ),
        ),
        Panel(
            title="Age of the last tick",
            description="Grants and permits stop by themselves when this exceeds 10 s.",
            kind="timeseries",
            unit="s",
            queries=(Query('outrider:evaluator_tick:age_seconds{job="$job"}', "age"),),
            limits=(Limit(10, "orange"), Limit(30, "red")),
        ),
        Panel(
            title="Ticks that failed",
            description="By what failed: store, ledger, or a defect of ours, whose trace is in the log.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query(
                    'sum by (part) (rate(outrider_evaluator_failures_total{job="$job"}[$__rate_interval]))', "{{part}}"
                ),
            ),
        ),
        Panel(
            title="Journal entries that the ledger lacks",
            description="A line that only rises: the ledger does not take entries, its disk may be full.",
            kind="timeseries",
            unit="short",
            queries=(Query('max(outrider_journal_lag_entries{job="$job"})', "entries"),),
        ),
        Panel(
            title="Entries written to the ledger",
            description="By kind. Attempts make most of them.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query('sum by (kind) (rate(outrider_ledger_entries_total{job="$job"}[$__rate_interval]))', "{{kind}}"),
            ),
        ),
        Panel(
            title="Events of vehicles",
            description="Numbered events by what became of them; each is acknowledged once it is on disk.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query('sum by (outcome) (rate(outrider_events_total{job="$job"}[$__rate_interval]))', "{{outcome}}"),
            ),
        ),
    ),
)

STORE = Section(
    "Store and disk",
    (
        Panel(
            title="Time of a question to the store",
            description="Median and 99th percentile of a small one, asked five times a second by the supervisor.",
            kind="timeseries",
            unit="s",
            queries=(
                Query(quantile(0.5, "outrider_store_call_seconds_bucket"), "median"),
                Query(quantile(0.99, "outrider_store_call_seconds_bucket"), "99 %"),
            ),
            width=8,
        ),
        Panel(
            title="Memory and append-only file",
            description="Of the store. The file shrinks when it is rewritten; both need room to grow.",
            kind="timeseries",
            unit="bytes",
            queries=(
                Query('max(outrider_store_memory_bytes{job="$job"})', "memory"),
                Query('max(outrider_store_file_bytes{job="$job"})', "append-only file"),
            ),
            width=8,
        ),
        Panel(
            title="Free disk",
            description="Where the data folder lies. Below 15 % there is a ticket, below 5 % a page.",
            kind="timeseries",
            unit="percentunit",
            queries=(Query('outrider:disk_free:ratio{job="$job"}', "{{folder}}"),),
            width=8,
            maximum=1,
        ),
    ),
)

HOUSE = Section(
    "Processes, certificates, metadata",
    (
        Panel(
            title="Restarts of children",
            description="Workers, signer and store that ended unasked. More than 3 within 10 min page somebody.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(
                    'sum by (child) (increase(outrider_child_restarts_total{job="$job"}[$__rate_interval]))',
                    "{{child}}",
                ),
            ),
        ),
        Panel(
            title="Supervisor: processor and memory",
            description="Share of a core, and resident memory in GiB.",
            kind="timeseries",
            unit="none",
            queries=(
                Query('sum(rate(outrider_process_cpu_seconds_total{job="$job"}[$__rate_interval]))', "cores"),
                Query('sum(outrider_process_resident_memory_bytes{job="$job"}) / 1073741824', "GiB"),
            ),
        ),
        Panel(
            title="Certificates end in",
            description="Days, machine time. server and images are issued anew when the orchestrator starts; an "
            "authority takes a plan.",
            kind="bargauge",
            unit="none",
            width=8,
            queries=(
                Query(
                    '(min by (certificate) (outrider_certificate_expiry_timestamp_seconds{job="$job"}) - time())'
                    f" / {DAY_S}",
                    "{{certificate}}",
                ),
            ),
        ),
        Panel(
            title="Metadata ends in",
            description="Days of fleet time. timestamp lives a day and snapshot a week, both are renewed at half their "
            "life; root and targets need offline keys.",
            kind="bargauge",
            unit="none",
            width=8,
            queries=(
                Query(
                    '(min by (repository, role) (outrider_metadata_expiry_timestamp_seconds{job="$job"})'
                    ' - on () group_left () max(outrider_fleet_time_timestamp_seconds{job="$job"}))'
                    f" / {DAY_S}",
                    "{{repository}} {{role}}",
                ),
            ),
        ),
        Panel(
            title="Changes of keys that wait",
            description="Signatures that a pending change still lacks; 0 waits to be published. Nothing here: no "
            "change is pending. `outrider keys status` says who is missing.",
            kind="bargauge",
            unit="none",
            width=8,
            queries=(Query('max by (change) (outrider_signatures_lacking{job="$job"})', "{{change}}"),),
        ),
    ),
)

SERVICE = Board(
    uid="outrider-service",
    title="Outrider / Service",
    description="Calls, evaluator, ledger, store, disk, processes, and what ends soon.",
    variables=(INSTALLATION,),
    sections=(NOW, CALLS, EVALUATOR, STORE, HOUSE),
)
