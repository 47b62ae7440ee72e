"""A queueing proxy before a Deployment's pods: connections wait in it while there is none, so it can scale to zero."""
