"""The HTTP edge: what monitoring asks, and images by range."""

from orchestrator.web.images import build_images_app
from orchestrator.web.monitoring import build_app
from orchestrator.web.server import WebError, start

__all__ = ["WebError", "build_app", "build_images_app", "start"]
