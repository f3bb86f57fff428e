"""Grafana boards generated from Python into committed JSON, and Prometheus rules beside them."""
