"""`make fuzz`: new cases until the time is over; the first find ends it, with the command that repeats it."""

from __future__ import annotations

import argparse
import secrets
import sys
import traceback
from collections import Counter
from collections.abc import Sequence
from random import Random
from time import perf_counter, process_time

from tests.fuzz.subjects import subjects

SLOW_S = 5.0
"""Processor time of one case from which it is a find: work that hostile bytes make must be bounded."""
AT_A_TIME = 200


def main(arguments: Sequence[str]) -> int:
    """Look for cases that are not refused as they should be."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Let hostile bytes be read.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--subject", action="append", default=[], help="only this one; may be given several times")
    parser.add_argument("--case", type=int, help="only this case, to repeat a find")
    options = parser.parse_args(arguments)
    first = options.case if options.case is not None else secrets.randbits(48)
    done: Counter[str] = Counter()
    slowest = 0.0
    ends_at = perf_counter() + 60 * options.minutes
    with subjects() as every:
        chosen = {name: every[name] for name in options.subject or every}
        while perf_counter() < ends_at:
            for name, case in chosen.items():
                for number in range(first, first + (1 if options.case is not None else AT_A_TIME)):
                    began = process_time()
                    try:
                        case(Random(f"{name} {number}"))
                    except Exception:
                        traceback.print_exc()
                        return _found(name, number, "is not refused by an error of its own")
                    took = process_time() - began
                    slowest, done[name] = max(slowest, took), done[name] + 1
                    if took > SLOW_S:
                        return _found(name, number, f"took {took:.1f} s of processor time")
            if options.case is not None:
                break
            first += AT_A_TIME
            sys.stderr.write(f"\r{sum(done.values()):,} cases, the slowest {slowest * 1000:.0f} ms ")
    said = ", ".join(f"{name} {count:,}" for name, count in done.items())
    sys.stdout.write(
        f"\n{sum(done.values()):,} cases, nothing found ({said}); the slowest took {slowest * 1000:.0f} ms\n"
    )
    return 0


def _found(name: str, number: int, what: str) -> int:
    sys.stdout.write(
        f"\nfound: a case of {name} {what}; again: python -m tests.fuzz --subject {name} --case {number}\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
