"""How good a network a short search finds: `python -m benchmarks.digits`."""
