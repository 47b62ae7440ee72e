"""Metrics of Triton pods for the stock HPA: an API server of external and custom metrics."""
