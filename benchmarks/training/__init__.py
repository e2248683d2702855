"""How fast the built-in trainers are: `python -m benchmarks.training`."""
