"""The store on Redis or Valkey, and the private server of the zero-setup default."""

from orchestrator.store.redis.append_only import RepairReport, repair
from orchestrator.store.redis.embedded import EmbeddedServer
from orchestrator.store.redis.store import RedisStore

__all__ = ["EmbeddedServer", "RedisStore", "RepairReport", "repair"]
