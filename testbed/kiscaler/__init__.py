"""KIScaler: an autoscaler that learns in the simulated cluster."""
