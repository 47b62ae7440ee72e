"""A policy that goes on fitting its service: drift found in live metrics, the profile set right, candidates judged."""
