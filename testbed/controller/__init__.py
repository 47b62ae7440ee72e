"""A policy in charge of a real deployment: watch, scrape, decide, guard, patch."""
