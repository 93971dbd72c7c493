"""The package's main job on real input: ``python -m examples.demo``."""
