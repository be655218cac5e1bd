"""Limits and budgets, before and after a call. Filled by the Admission issue."""
