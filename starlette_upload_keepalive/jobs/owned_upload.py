"""Who owns which upload, and since when: what a leak is found by."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, get_args

from starlette_upload_keepalive.files.owner import Owner, OwnerKind
from starlette_upload_keepalive.files.printable import printable
from starlette_upload_keepalive.files.storage import Storage

from .job import Job

_MOST_NAMED = 20  # uploads in one message of the log
_MOST_OF_A_NAME = 100  # characters

logger: logging.Logger = logging.getLogger("starlette_upload_keepalive")


@dataclass(frozen=True, kw_only=True)
class OwnedUpload:
    """An upload that somebody owns. Two who own the same bytes are two uploads.

    What a client has chosen may be logged: what can't be printed is escaped,
    and long names are cut off.

    Attributes:
        field_name: The form field it came in, if it did.
        filename: The name that the client gave, if it did.
        size: Its bytes so far.
        in_memory: Whether they are in memory, or else on disk.
        owner: Who owns it, for people: ``"the request POST /photos"``.
        owner_kind: ``"request"``, ``"job"``, ``"code"`` that called `detach` or made it,
            or an ``"operation"`` that a thread has yet to finish.
        owned_seconds: For how long.
    """

    field_name: str | None
    filename: str | None
    size: int
    in_memory: bool
    owner: str
    owner_kind: OwnerKind
    owned_seconds: float

    def __str__(self) -> str:
        name = "a file without a name" if self.filename is None else f"'{self.filename}'"
        field = "" if self.field_name is None else f" of field '{self.field_name}'"
        place = "in memory" if self.in_memory else "on disk"
        return (
            f"{name}{field} ({self.size:,} bytes {place}), owned by {self.owner} "
            f"for {self.owned_seconds:,.1f} s"
        )


def owned_uploads(
    storage: Storage, find_job: Callable[[str], Job[Any] | None]
) -> Sequence[OwnedUpload]:
    """Tell who owns uploads, those first who have for longest.

    Args:
        storage: Where the uploads are.
        find_job: Finds a job by its id, if it is known.
    """
    now = monotonic()
    owned = [(owner, blob) for blob in storage.blobs for owner in _answerable(blob.held_by)]
    owned.sort(key=lambda pair: pair[0].since)
    return tuple(
        OwnedUpload(
            field_name=_shortened(blob.field_name),
            filename=_shortened(blob.filename),
            size=blob.size,
            in_memory=blob.in_memory,
            owner=_described(owner, find_job),
            owner_kind=owner.kind,
            owned_seconds=max(0.0, now - owner.since),
        )
        for owner, blob in owned
    )


def by_owner_kind(owned: Sequence[OwnedUpload]) -> dict[OwnerKind, list[OwnedUpload]]:
    """Tell uploads apart by what owns them, each kind in the order that they were in.

    Args:
        owned: Those uploads.
    """
    found: dict[OwnerKind, list[OwnedUpload]] = {kind: [] for kind in get_args(OwnerKind)}
    for each in owned:
        found[each.owner_kind].append(each)
    return found


def warn_of_owned(owned: Sequence[OwnedUpload]) -> None:
    """Log which uploads are still owned although the app has ended, if any are.

    Args:
        owned: Those uploads.
    """
    if not owned:
        return
    count = "1 upload is" if len(owned) == 1 else f"{len(owned):,} uploads are"
    named = [str(each) for each in owned[:_MOST_NAMED]]
    if len(owned) > _MOST_NAMED:
        named.append(f"and {len(owned) - _MOST_NAMED:,} more")
    logger.warning("The app has ended, and %s still owned: %s.", count, "; ".join(named))


def _answerable(owners: list[Owner]) -> list[Owner]:
    """Return those without whom it would be closed: nobody who owns it on behalf of another."""
    lasting = [owner for owner in owners if owner.kind != "operation"]
    return [owner for owner in lasting or owners if owner.lender not in owners]


def _described(owner: Owner, find_job: Callable[[str], Job[Any] | None]) -> str:
    if owner.kind != "job":
        return owner.name
    job = find_job(owner.name.rpartition(" ")[2])
    known = "" if job is None else f" of {job.handler}, {job.state.value}"
    # An attempt is lent its job's uploads. It answers for them where the job has let go.
    return owner.name + known + ("" if owner.lender is None else " (its thread goes on)")


def _shortened(name: str | None) -> str | None:
    return None if name is None else printable(name, _MOST_OF_A_NAME)
