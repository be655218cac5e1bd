"""What the commands of `gateway` do."""
