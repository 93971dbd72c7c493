"""How revisions run on a database that is written to: one deployer, short lock waits with retries, small batches."""
