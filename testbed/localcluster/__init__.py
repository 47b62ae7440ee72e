"""A real Kubernetes on this machine, for tests and demos: a control plane, nodes with GPUs, fake nodes.

`python -m testbed.localcluster up` starts it, `down` leaves nothing. docs/how-to/local-cluster.md describes it.
"""
