"""A real deployment as a policy sees it: read through the Kubernetes API, and from its pods' Triton."""
