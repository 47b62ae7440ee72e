"""What is served: models, their Triton repositories, the backends that run in Triton, and request inputs."""
