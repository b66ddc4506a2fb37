"""Models that can be looked into and steered: one file a backend. The only room with hooks."""
