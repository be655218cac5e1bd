"""What is used on WebSockets, found in their messages. Sans-I/O, bounded, and it raises for no message."""
