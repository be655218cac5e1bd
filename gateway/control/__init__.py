"""The control plane: admin API, registry, publisher; later the ledger and the jobs."""
