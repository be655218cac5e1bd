"""The data plane: a worker, from a client's request to an upstream and back."""
