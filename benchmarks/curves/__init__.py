"""Forecasts of learning curves, the stopping built on them, and estimates of data needs.

Measured on real curves, with baselines in the same run:
``python -m benchmarks.curves --data DIR [--part forecasts|prior|stopping|sizes] [--quick]``.
"""
