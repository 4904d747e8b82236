"""Store the bytes of a blob under a name of the user's choice."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from .blob import Blob
from .copying import copy
from .owner import Owner
from .permissions import take_owner
from .private_file import PrivateFile

# What link(2) says on a filesystem that knows no links, such as exFAT.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}
_EXISTS = "The file exists: give another name, or overwrite=True"


def save(
    blob: Blob,
    saver: Owner,
    destination: str | os.PathLike[str],
    *,
    overwrite: bool,
    durable: bool,
) -> Path:
    """Store the bytes under a name, all of them or nothing. Blocks.

    The last owner's private file becomes the file of that name. Else, or where
    that can't be, it is a copy.

    Args:
        blob: What to store.
        saver: Who owns it meanwhile.
        destination: The name; its directory must exist.
        overwrite: Replace a file of that name, or a link to a file.
        durable: Return only when a power cut can't take the file away.

    Raises:
        ValueError: The destination names no file.
        FileExistsError: The name is taken, and it may not be overwritten, or is
            that of something else than a file.
        UploadChanged: The bytes were saved without a copy before, and changed.
        OSError: The directory is missing, can't be written, or is full.
    """
    path = _named(destination)
    _check(path, overwrite=overwrite)
    partial = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with blob.offered(saver) as file:
            given = file is not None and _give(blob, file, partial, path, durable=durable)
        if not given:
            copy(blob, partial, mode=0o666, durable=durable)  # less the umask, as open() has it
            if not blob.in_memory:
                blob.storage.advice.copied(blob.storage.directory, path.parent)
        if overwrite:
            os.replace(partial, path)
        else:
            _name(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    if durable:
        _sync_directory(path.parent)
    return path


def _named(destination: str | os.PathLike[str]) -> Path:
    name = os.fspath(destination)
    # A path object would drop the separator at the end, by which it names a directory.
    if os.path.basename(name) in {"", os.curdir, os.pardir}:
        raise ValueError(
            f"{name!r} names no file: give the directory and a name, or use save_to()."
        )
    return Path(name)


def _check(destination: Path, *, overwrite: bool) -> None:
    directory = destination.parent
    if not directory.is_dir():
        if directory.exists():
            raise _refused(errno.ENOTDIR, "No directory, so no file can be in it", directory)
        raise _refused(errno.ENOENT, "The directory does not exist: create it first", directory)
    try:
        mode = destination.stat().st_mode  # of what a link leads to: that of a device is one
    except FileNotFoundError:
        if overwrite or not destination.is_symlink():
            return
        what = "A link to nothing exists: give another name, or overwrite=True"
        raise _refused(errno.EEXIST, what, destination) from None
    if stat.S_ISDIR(mode):
        what = "It is a directory: use save_to(), or add a name"
    elif not stat.S_ISREG(mode):
        what = "It is no plain file: give another name"
    elif not overwrite:
        what = _EXISTS
    else:
        return
    raise _refused(errno.EEXIST, what, destination)


def _refused(code: int, why: str, path: Path) -> OSError:
    """Make the error that the system has for it, with more to say."""
    return OSError(code, why, str(path))


def _give(
    blob: Blob, file: PrivateFile, partial: Path, destination: Path, *, durable: bool
) -> bool:
    """Give the private file a name, as if it had been made there.

    Returns:
        Whether it could. If not, nothing has that name.
    """
    fd = file.fileno()
    example = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
    try:
        alike, mode = take_owner(fd, example), os.fstat(example).st_mode
    finally:
        os.close(example)
        partial.unlink()
    try:
        if not (alike and blob.storage.marks_tell(file) and file.give(destination)):
            return False
        file.link(partial)
    except OSError:
        # Another filesystem, or the file had a name before. What else is wrong, copying will say.
        file.take_back()
        return False
    file.unlink()  # its name in our directory: it is not for our eyes only any more
    os.fchmod(fd, stat.S_IMODE(mode))
    if durable:
        os.fsync(fd)
    return True


def _name(partial: Path, destination: Path) -> None:
    try:
        _link_or_claim(partial, destination)
    except FileExistsError:  # since it was looked for
        raise _refused(errno.EEXIST, _EXISTS, destination) from None


def _link_or_claim(partial: Path, destination: Path) -> None:
    try:
        os.link(partial, destination)  # unlike a rename, this never replaces
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _claim(partial, destination)


def _claim(partial: Path, destination: Path) -> None:
    """Claim the name, and then replace what claims it: a reader may find it empty in between."""
    os.close(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    try:
        os.replace(partial, destination)
    except BaseException:
        destination.unlink()
        raise


def _sync_directory(path: Path) -> None:
    """Have the disk know the names in a directory (fsync(2): the file's own does not)."""
    if os.name != "posix":  # pragma: no cover - Windows opens no directories
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a filesystem that has nothing to sync there (fsync(2))
            raise
    finally:
        os.close(fd)
