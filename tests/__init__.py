"""Tests, by package. A package itself so that `python -m tests.conformance.hpa` finds it."""
