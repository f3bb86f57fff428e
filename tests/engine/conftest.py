"""Settings of the property tests: no deadline, since a busy machine is not a defect of the engine."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("engine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("engine")
