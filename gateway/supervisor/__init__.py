"""Starts, watches, reloads and drains the processes; holds the listening sockets and the operations listener."""
