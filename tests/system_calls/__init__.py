"""Accept, claim and finish under strace, with each of their system calls failing in turn."""
