"""The HTTP edge: what monitoring asks, images by range, and a vehicle's Director files."""

from orchestrator.web.director import build_director_app
from orchestrator.web.images import build_images_app
from orchestrator.web.monitoring import build_app
from orchestrator.web.server import WebError, show_certificate, start, tls_context

__all__ = [
    "WebError",
    "build_app",
    "build_director_app",
    "build_images_app",
    "show_certificate",
    "start",
    "tls_context",
]
