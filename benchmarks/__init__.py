"""What reproduces the figures of docs/benchmarks.md: ``python -m benchmarks.backfill``."""
