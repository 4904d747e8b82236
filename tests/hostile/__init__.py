"""Input that means harm, the servers it is sent to, and what it must not leave behind."""
