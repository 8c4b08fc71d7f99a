"""Prometheus and Alertmanager of the practice platform, and the series that they see."""
