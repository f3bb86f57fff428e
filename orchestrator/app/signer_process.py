"""The Director's signer as a child of the supervisor: a process of its own that holds the Director's online keys and
nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

from orchestrator.app.children import end_with_parent, name_process, say_ready
from orchestrator.app.installation import Installation, Orders
from orchestrator.logs import configure_logging
from orchestrator.settings import Settings
from signing import signer

PROCESS_NAME = "outrider-signer"


def main(data: Path) -> None:
    """Entry of the process."""
    name_process(PROCESS_NAME)
    end_with_parent()
    installation = Installation(data)
    orders = Orders.load(installation.run / "orders.json")
    settings = Settings(**orders.settings)
    configure_logging(level=settings.log_level, log_format=settings.log_format, stream=sys.stderr)
    signer.serve(
        Path(orders.signer_socket),
        installation.director_keys,
        installation.director_metadata,
        installation.image_repository,
        ready=say_ready,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
