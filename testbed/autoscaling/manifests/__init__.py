"""Autoscalers as people have them in Git: objects of Kubernetes' API, read as settings of policies.

`file` finds the object; a kind of object is a file here.
"""
