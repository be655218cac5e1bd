"""The downstream side: the client's connection, the request's target and head, and the answer's bytes."""
