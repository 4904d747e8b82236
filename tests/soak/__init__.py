"""Real servers on one spool, killed and stopped again and again, while clients upload."""
