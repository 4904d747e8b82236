"""Hooks for libraries of logs, traces and metrics. Each module needs the extra of its name."""
