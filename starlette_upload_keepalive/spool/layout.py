"""Where things are in the directory of a spool.

::

    owners/<owner>.lock        locked for as long as the owner lives
    claimed/<owner>/<entry>    a job that an owner has
    claimed/<owner>/<accept>/  several jobs of one request, as they were accepted
    claimed/<owner>/.<name>    what is being written, and is not there yet
    ready/<entry>              a job that any owner may claim
    done/<entry>               a job that is done: its record, for a while
    dead/<entry>               a job that has failed, with its bytes
    corrupt/<name>             what can't be read; never removed by us
    trash/<name>               what is being removed

An entry is a directory. Its name is told by `Entry`. In it are the job's record,
its files by number, and once it is done, what came of it.
"""

from __future__ import annotations

import re
import secrets

OWNERS = "owners"
CLAIMED = "claimed"
READY = "ready"
DONE = "done"
DEAD = "dead"
CORRUPT = "corrupt"
TRASH = "trash"
FOLDERS = (OWNERS, CLAIMED, READY, DONE, DEAD, CORRUPT, TRASH)

RECORD = "job.json"
ENDING = "ending.json"
CHILDREN = "children"
LOCK = ".lock"

# Bytes. A thousand files whose names are as long as filesystems take them need under 4 MiB.
MAX_RECORD = 64 * 1024 * 1024

_UNPUBLISHED = "."
_ACCEPT = "accept-"
_TEMPORARY = "upload-"  # of files that are parsed or exposed, and of no concern to the spool
_OWNER = re.compile("[0-9a-f]{32}")


def random_name() -> str:
    """Return a name that nothing else has: 32 random hex digits."""
    return secrets.token_hex(16)


def draft_of(name: str) -> str:
    """Return what is called that way while it is being written."""
    return _UNPUBLISHED + name


def is_draft(name: str) -> bool:
    """Tell whether it was not written to its end."""
    return name.startswith((_UNPUBLISHED, _TEMPORARY))


def accept_name() -> str:
    """Return a name for several jobs that are accepted together."""
    return _ACCEPT + random_name()


def is_accept(name: str) -> bool:
    """Tell whether several jobs are in it."""
    return name.startswith(_ACCEPT)


def is_owner(name: str) -> bool:
    """Tell whether it can be the name of an owner."""
    return _OWNER.fullmatch(name) is not None


def lock_of(owner: str) -> str:
    """Return the path of an owner's lock."""
    return f"{OWNERS}/{owner}{LOCK}"


def folder_of(owner: str) -> str:
    """Return the path of what an owner has."""
    return f"{CLAIMED}/{owner}"
