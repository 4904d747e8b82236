"""What is raised where a limit of the app leaves no room, and not the system."""

from __future__ import annotations


class OverLimit(OSError):
    """Raised where a limit of the app leaves no room, and not the system. Its text names it."""
