"""KISim: a simulated GPU cluster that serves models. docs/explanation/simulator.md says what is modelled."""
