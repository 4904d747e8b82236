"""Reading a job again: its record, and its files."""

from __future__ import annotations

from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import Upload, let_go_of_all
from starlette_upload_keepalive.jobs.record import JobRecord, UnreadableRecord
from starlette_upload_keepalive.jobs.spool import ClaimedJob, upload_of

from .disk import Disk
from .entry import Entry
from .layout import MAX_RECORD, RECORD


def read_job(disk: Disk, path: str, entry: Entry, storage: Storage) -> ClaimedJob:
    """Read a job that is ours, and open its files.

    Args:
        disk: Where.
        path: The entry's directory.
        entry: What its name tells.
        storage: What the files belong to.

    Raises:
        UnreadableRecord: It is not whole.
        NewerFormat: A newer version has written it.
        FileNotFoundError: A part of it is missing.
        OSError: The disk failed.
    """
    if not disk.is_directory(path):
        raise UnreadableRecord("It is no directory.")
    record = read_record(disk, path, entry)
    uploads: list[Upload] = []
    try:
        for number, file in enumerate(record.files):
            size = disk.size(f"{path}/{number}")
            if size != file.size:
                raise UnreadableRecord(f"File {number} has {size} bytes, not {file.size}.")  # noqa: TRY301
            blob = disk.blob(f"{path}/{number}", storage)
            uploads.append(upload_of(record.id, file, blob))
    except BaseException:
        let_go_of_all(uploads)
        raise
    return ClaimedJob(record, entry.standing, uploads)


def read_record(disk: Disk, path: str, entry: Entry) -> JobRecord:
    """Read the record of an entry.

    Args:
        disk: Where.
        path: The entry's directory.
        entry: What its name tells.

    Raises:
        UnreadableRecord: It has none that belongs to it.
        NewerFormat: A newer version has written it.
        FileNotFoundError: It is not there, or not any more.
    """
    record = JobRecord.from_json(disk.read_file(f"{path}/{RECORD}", MAX_RECORD))
    if record.id != entry.id:
        raise UnreadableRecord(f"It is the record of the job {record.id}.")
    return record
