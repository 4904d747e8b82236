"""What a power cut may leave of a spool: every step is recorded, and replayed in part.

kill -9 can't show that an fsync is missing: the kernel keeps what it was given.
So the spool's own code runs on a disk in memory (`model_disk`) that notes each
step (`log`). From the notes, `persistence` tells all that may be on a disk
after the power was cut at any point. On each such state a new process starts
(`restart`), and all that was promised must hold (`promises`). That this finds
faults at all is shown by faults that are put in (`mutants`).

``python -m tests.power_cut`` looks at all of it; the tests look at a part.
"""
