"""The composition root: builds the parts, starts them, drains them. `serve` is the supervisor."""

from orchestrator.app.supervisor import serve

__all__ = ["serve"]
