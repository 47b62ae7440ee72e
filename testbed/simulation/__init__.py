"""KISim: Triton's batching rules, compiled, for replicas behind a balancer."""
