"""Processes of handlers: how they are found, started, spoken to, and ended."""
