"""The Horizontal Pod Autoscaler (autoscaling/v2), exactly. docs/explanation/simulator.md maps rules to files."""
