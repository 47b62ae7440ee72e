"""Serve, measure, calibrate, simulate, compare: from one real Triton service to a simulator that can be trusted."""
