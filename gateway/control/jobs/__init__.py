"""Background work. Filled by the Ledger and Upstreams issues."""
