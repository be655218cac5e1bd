"""What operators see: every metric in one table, and logs of one JSON line an event."""
