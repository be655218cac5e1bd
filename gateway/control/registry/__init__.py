"""What exists: projects and keys, and the publisher that writes the read model into Redis."""
