"""KISim: a GPU cluster that serves models and is scaled; docs/simulator.md says what is modelled, and what is not."""
