"""A service with n replicas: how to have one (on this machine; on Kubernetes later)."""
