"""Fuzzing of everything that kis reads: `python -m tests.fuzz` by hand, test_fuzz.py in CI."""
