"""Counters, limits and reservations, shared by both planes: Lua scripts and their Python."""
