"""The C library's memory: what one message frees is kept for the next."""

from __future__ import annotations

from starlette_upload_keepalive.quantities import MIB

# More than a large upload holds at once. It is never touched, so it takes no memory.
_BLOCK = 8 * MIB


def keep_freed_memory() -> None:
    """Have the C library keep what large messages free, instead of giving it back at once.

    glibc returns free memory at the end of its heap to the kernel when that
    exceeds a threshold, of 128 KiB at first, and asks for it again for the next
    message: a page fault for each 4 KiB of an upload, which took up to half of
    its time. To free one larger block raises the threshold to twice its size
    (mallopt(3), "dynamic mmap threshold"), once for the whole process: again it
    would only cost time. Other allocators don't mind.
    """
    bytes(_BLOCK)
