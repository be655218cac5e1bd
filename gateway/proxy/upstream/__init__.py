"""Connections to upstreams: pool, request heads, the answer as it arrives."""
