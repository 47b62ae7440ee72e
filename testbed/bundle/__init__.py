"""What a GPU machine without a network needs, in one folder; and campaigns that fit into minutes on it."""
