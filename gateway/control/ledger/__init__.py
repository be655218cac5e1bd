"""Usage and costs. Filled by the Ledger issue."""
