"""Simulated against real: comparison, figures and the report. Imports artefact types only."""
