"""KIScaler: policies that turn what a cluster exposes into a wanted number of replicas."""
