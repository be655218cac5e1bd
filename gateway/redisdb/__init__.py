"""Redis: the client for everything, the pipelining connection for the hot path, and the embedded server."""
