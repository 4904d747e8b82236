"""Fuzzing: what is read of others is given any bytes, steered by what code they reach.

`targets` are what is tried and must hold, `corpus` the bytes to begin with and those that once
broke something, which the tests replay. ``python -m tests.fuzzing`` looks for more.
"""
