"""Every promise of a spool, each with a check."""
