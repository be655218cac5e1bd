"""Taps beside the byte path. Filled by the Metering issue."""
