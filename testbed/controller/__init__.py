"""A policy that scales a real deployment: watch, scrape, decide, guard, patch."""
