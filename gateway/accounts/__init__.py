"""Counters and reservations, shared by both planes: Lua scripts and their Python. Filled by the Admission issue."""
