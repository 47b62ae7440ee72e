"""The Horizontal Pod Autoscaler (autoscaling/v2), exactly: docs/simulator.md says which rule stands where."""
