"""Entry of the child processes: `python -m orchestrator.app worker|signer DATA`. People use `outrider serve`."""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.app import signer_process, worker

ENTRIES = {"worker": worker.main, "signer": signer_process.main}

if __name__ == "__main__":
    ENTRIES[sys.argv[1]](Path(sys.argv[2]))
