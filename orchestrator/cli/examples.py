"""Examples for the help of each command, and where the help leads from there.

Owns one or two command lines for every command; a test parses each, so that none can name what is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

EXAMPLES: Mapping[str, Sequence[str]] = {
    "keys init": (
        "outrider keys init --data outrider-data --trust-domain fleet.example",
        "outrider keys init --keys director.root=3/5 --keys image.root=3/5 --keys image.targets=2/3",
    ),
    "keys status": ("outrider keys status", "outrider keys status -o json"),
    "keys make": ("outrider keys make anna.pem   # asks for its password; hand anna.pub to whoever edits the root",),
    "keys use": (
        "outrider keys use image targets 'hsm:2?label=releases'",
        "outrider keys use image timestamp awskms:alias/timestamp --public timestamp.pub",
    ),
    "keys renew": ("outrider keys renew director",),
    "keys add": ("outrider keys add director root anna.pub", "outrider keys add image root bob=hsm:2?label=bob"),
    "keys revoke": ("outrider keys revoke director root-3",),
    "keys rotate": (
        "outrider keys rotate director timestamp",
        "outrider keys rotate director root --new anna.pub --new bob.pub --new carl.pub",
    ),
    "keys threshold": ("outrider keys threshold director root 3",),
    "keys delegate": (
        "outrider keys delegate acme acme.pub --path 'acme/*' --hardware-id acme-brake-1",
        "outrider keys delegate acme --path 'acme/*' --path 'acme/beta/*'",
    ),
    "keys undelegate": ("outrider keys undelegate acme",),
    "keys show": ("outrider keys show outrider-data/pending/director.json",),
    "keys sign": (
        "outrider keys sign /media/usb/director.json --key anna.pem",
        "outrider keys sign director.json --key 'hsm:2?label=anna' --yes --password-file pin.txt",
    ),
    "keys collect": ("outrider keys collect outrider-data/pending/director.json /media/usb/director.json",),
    "keys publish": ("outrider keys publish outrider-data/pending/director.json",),
    "serve": (
        "outrider serve --data outrider-data --workers 2",
        "outrider serve --scale 200   # a simulation: fleet time runs 200 times as fast",
    ),
    "fleet import": (
        "outrider fleet import fleet.csv --dry-run",
        'outrider fleet import fleet.csv --reason "July build"',
    ),
    "fleet tokens": (
        "outrider fleet tokens --out tokens.jsonl",
        "outrider fleet tokens --out tokens.jsonl --continue",
        "outrider fleet tokens v-0001 v-0002",
    ),
    "fleet list": (
        "outrider fleet list --region eu --cohort canary",
        "outrider fleet list --where 'tag=taxi,installed<1.1.0'",
    ),
    "fleet revoke": ('outrider fleet revoke v-0007 --reason "stolen"',),
    "fleet set": (
        'outrider fleet set v-0007 --cohort canary --reason "volunteers"',
        "outrider fleet set --where 'region=eu,tag=export' --region us --reason \"shipped\"",
    ),
    "fleet remove": ('outrider fleet remove v-0007 --reason "scrapped"',),
    "fleet quarantine": (
        'outrider fleet quarantine v-0007 --reason "odd sensor readings"',
        'outrider fleet quarantine v-0007 --lift --reason "sensor replaced"',
    ),
    "fleet deny": ('outrider fleet deny v-0007 --rollout spring-1-1-0 --reason "rally next week"',),
    "fleet export": ("outrider fleet export --out fleet.csv",),
    "fleet count": (
        "outrider fleet count --by region,cohort",
        "outrider fleet count --by installed --where 'region=eu'",
    ),
    "release publish": (
        "outrider release publish release-1.1.0.yaml",
        "outrider release publish release-1.2.0.yaml --delta-from 1.1.0 --delta-from 1.0.0",
    ),
    "release attest": (
        "outrider release attest   # after a key of attest was revoked",
        'outrider release attest 1.0.0 --without-evidence "built before we kept any"',
    ),
    "release evidence": ("outrider release evidence 1.1.0 --out audit",),
    "release supply": (
        "outrider release supply brake-2.0.0.yaml acme.json",
        "outrider keys sign acme.json --key acme.pem   # then send acme.json and the images",
    ),
    "release show": ("outrider release show", "outrider release show 1.1.0"),
    "rehearse": (
        "outrider rehearse plan.yaml --failure-rate 2% --silent 30% --vehicles 1000000",
        "outrider rehearse plan.yaml --fleet fleet.csv --failure-rate 0.5% --runs 100 --svg plan.svg",
    ),
    "rollout preview": ("outrider rollout preview plan.yaml", "outrider rollout preview plan.yaml --effective"),
    "rollout schema": ("outrider rollout schema   # for an editor: save it as plan.schema.json",),
    "rollout start": (
        "outrider rollout start plan.yaml",
        'outrider rollout start plan.yaml --id spring-2 --yes --reason "fixes recall 7"',
        "outrider rollout start plan.yaml --draft   # others approve it, then `rollout launch`",
    ),
    "rollout revert": (
        'outrider rollout revert spring-1-1-0 --reason "brakes squeal"',
        'outrider rollout revert spring-1-1-0 --reason "brakes squeal" --out revert.yaml   # edit, start later',
    ),
    "rollout status": ("outrider rollout status", "outrider rollout status spring-1-1-0 -o json"),
    "rollout watch": (
        "outrider rollout watch spring-1-1-0",
        "outrider rollout watch spring-1-1-0 --until completed   # in a pipeline: code 4 when it ends otherwise",
    ),
    "rollout list": ("outrider rollout list",),
    "rollout launch": ('outrider rollout launch spring-1-1-0 --reason "both have approved"',),
    "rollout pause": (
        'outrider rollout pause spring-1-1-0 --reason "calls about brakes"',
        'outrider rollout pause spring-1-1-0 --scope eu/gen1 --reason "calls about brakes, gen1 only"',
    ),
    "rollout resume": (
        'outrider rollout resume spring-1-1-0 --reason "it was a dealer\'s charger"',
        'outrider rollout resume spring-1-1-0 --scope eu/gen1 --reason "a known fault of one batch"',
    ),
    "rollout signal post": (
        'outrider rollout signal post spring-1-1-0 tow_rate --value 2.4 --limit 1.5 --reason "tows a day, EU desk"',
        "outrider --as ci rollout signal post spring-1-1-0 codes --value 0.3 --limit 1.5 --good-for 30m "
        '--measured-at 2031-04-05T06:00 --reason "trouble codes per 1000 km"',
        "outrider --as ci rollout signal post spring-1-1-0 brake_complaints --kind safety --scope eu/gen1 "
        '--value 1 --limit 0 --reason "ticket 4711" -o json',
    ),
    "rollout signal clear": (
        'outrider rollout signal clear spring-1-1-0 tow_rate --reason "a storm, not the release"',
    ),
    "rollout signal list": ("outrider rollout signal list spring-1-1-0",),
    "rollout abort": ('outrider rollout abort spring-1-1-0 --reason "wrong release"',),
    "rollout approve": (
        'outrider --as ann rollout approve spring-1-1-0 --reason "canary is fine"   # of a draft: the rollout itself',
        'outrider --as ann rollout approve spring-1-1-0 --wave general --region eu --reason "eu first"',
    ),
    "vehicle show": ("outrider vehicle show v-0001",),
    "vehicle explain": ("outrider vehicle explain v-0001 --rollout spring-1-1-0",),
    "case list": ("outrider case list --rollout spring-1-1-0", "outrider case list --settled --limit 0 -o json"),
    "case show": ("outrider case show spring-1-1-0.v-0001.1",),
    "case close": ('outrider case close spring-1-1-0.v-0001.1 --reason "repaired in Ulm"',),
    "backup": ("outrider backup outrider.backup", "outrider backup outrider.backup --keys --no-images"),
    "restore": ("outrider restore outrider.backup --data new-data",),
    "ledger show": ("outrider ledger show spring-1-1-0", "outrider ledger show --vehicle v-0001"),
    "ledger verify": (
        "outrider ledger verify --data outrider-data",
        "outrider ledger verify --head ledger-head.json --key head.pub",
        "outrider ledger verify --archive ledger-2031.jsonl.gz",
    ),
    "ledger export": (
        "outrider ledger export ledger.jsonl.gz",
        "outrider ledger export spring.jsonl --rollout spring-1-1-0",
    ),
    "ledger archive": (
        'outrider ledger archive ledger-2031.jsonl.gz --before 2032-01-01 --reason "Kept with the year"',
    ),
    "ledger head": ("outrider ledger head --output json",),
    "ledger outcomes": ("outrider ledger outcomes spring-1-1-0",),
    "image-repo export": ("outrider image-repo export /var/www/images", "outrider image-repo export s3://bucket/fleet"),
    "image-repo renew": ("outrider image-repo renew --every 3600",),
    "store verify": (
        "outrider store verify",
        'outrider store verify --repair --reason "a test wrote into the store, INC-417"',
    ),
    "store repair": ("outrider store repair --check", "outrider store repair"),
    "ca issue-operator": (
        "outrider ca issue-operator ann --role approver",
        "outrider ca issue-operator ci --role operator --days 30",
    ),
    "ca renew": ("outrider ca renew server --days 3650",),
    "doctor": ("outrider doctor", "outrider doctor --data outrider-data -o json"),
}
"""By command. A new command has its place here."""


def epilog(name: str) -> str:
    """The examples of a command below its help; empty when it has none. Blank lines keep lines apart in typer."""
    lines = EXAMPLES.get(name, ())
    if not lines:
        return ""
    title = "[bold]Example[/bold]" if len(lines) == 1 else "[bold]Examples[/bold]"
    return "\n\n".join([title, *(f"  $ {escape(line)}" for line in lines)])


def give_examples(name: str, command: Any) -> None:
    """Put the examples below the help of a command, or of each command of a group, however deep it lies."""
    below = getattr(command, "commands", None)
    if below is None:
        command.epilog = epilog(name)
        return
    for word, one in below.items():
        give_examples(f"{name} {word}", one)
