"""How fast it is, beside what it replaces: ``python -m benchmarks``."""
