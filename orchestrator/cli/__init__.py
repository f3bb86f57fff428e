"""The `outrider` command: a client of the operator API, plus what is done on the data folder itself."""

from orchestrator.cli.main import main, run

__all__ = ["main", "run"]
