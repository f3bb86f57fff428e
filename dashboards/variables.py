"""The choices that boards have in common."""

from __future__ import annotations

from dashboards.model import Variable

INSTALLATION = Variable("job", "Installation", "label_values(outrider_build_info, job)")
"""A job is one installation: whoever runs two must not see their sum."""
ROLLOUT = Variable("rollout", "Rollout", 'label_values(outrider_rollout_epoch{job="$job"}, rollout)')
