"""A parent process for a test: starts the child named on its command line, says its pid, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.app.children import Child
from orchestrator.logs import configure_logging


async def main(script: str) -> None:
    configure_logging(level="info", log_format="json", stream=sys.stderr)
    child = Child(name="child", arguments=[script], environment={}, ended=lambda _: None)
    await child.start()
    assert child.process is not None
    print(child.process.pid, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
