"""What may come in: how much, how fast, and of which kind."""
