"""The python-backend models that run inside Triton, one file a family.

`workloads/repository.py` copies this package beside each model: the server's Python process sees nothing else of ours,
so these files import only the standard library, numpy, torch and each other.
"""
