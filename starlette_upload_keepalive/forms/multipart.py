"""From a body's stream to uploads: keeps the limits, and batches the writes."""

from __future__ import annotations

from collections.abc import AsyncIterable

from python_multipart.exceptions import FormParserError
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException

from starlette_upload_keepalive.files.blob import Blob
from starlette_upload_keepalive.files.disk_errors import told_to_the_client
from starlette_upload_keepalive.files.storage import Storage
from starlette_upload_keepalive.files.upload import Origin, Upload, let_go_of_all
from starlette_upload_keepalive.files.write_behind import WriteBehind
from starlette_upload_keepalive.files.write_through import FEW, WriteThrough
from starlette_upload_keepalive.limits.field_limits import UNLIMITED, FormLimits
from starlette_upload_keepalive.limits.head_check import HeadCheck
from starlette_upload_keepalive.limits.reception import Reception
from starlette_upload_keepalive.quantities import KIB

from .field_memory import FieldMemory
from .multipart_type import INVALID, multipart_type
from .part_parser import PartParser
from .plain_parts import RawHeaders

# From here on a slice for the disk is not copied; until it is written it keeps its message. One of
# a bytearray always is: a middleware that sends those, against the ASGI specification, may use it
# again.
_VIEW = 64 * KIB

INCOMPLETE = "Incomplete multipart data: the body ended before its closing boundary."

Writer = WriteThrough | WriteBehind
FormItems = list[tuple[str, "str | UploadFile"]]


class MultipartReader:
    """Reads one multipart body, and owns every file from its first byte.

    Values, limits and messages are those of the newest Starlette, but for the
    divergences 1, 3, 7 and 10 to 13.

    Args:
        content_type: The request's.
        storage: Where files are to live.
        reception: How the body comes in; without limits if None.
        limits: What its files may be; anything if None.
        owner: Who owns the uploads, for people.
        origin: What can veto the uploads' jobs.
        max_files: The most file parts.
        max_fields: The most parts that are no files.
        max_part_size: The most bytes of a part that is no file.
    """

    def __init__(
        self,
        content_type: str,
        *,
        storage: Storage,
        reception: Reception | None = None,
        limits: FormLimits | None = None,
        owner: str,
        origin: Origin | None = None,
        max_files: float = 1000,
        max_fields: float = 1000,
        max_part_size: int = 1024 * 1024,
    ) -> None:
        self._content_type = content_type
        self._storage = storage
        self._reception = Reception() if reception is None else reception
        self._limits = FormLimits() if limits is None else limits
        self._owner = owner
        self._origin = origin
        self._max_files = max_files
        self._max_fields = max_fields
        self._max_part_size = max_part_size

        self._items: FormItems = []
        self._uploads: list[Upload] = []
        self._fields = 0
        self.field_memory: FieldMemory = FieldMemory(storage.memory)
        self._complete = False
        self._charset = "utf-8"
        self._unwritten: list[Blob] = []  # finished, but for a last write

        # The part that is being read
        self._blob: Blob | None = None  # None for a part that is no file
        self._allowance = UNLIMITED
        self._head: HeadCheck | None = None
        self._field_name = ""
        self._field_data = bytearray()

    async def read(self, stream: AsyncIterable[bytes]) -> FormItems:
        """Read the body to its end.

        Args:
            stream: The body, in pieces of any size.

        Returns:
            The names and values of the form, in order. The caller owns the uploads, and
            gives the `field_memory` back.

        Raises:
            MultiPartException: The body is malformed, incomplete or above a limit.
            UploadRefused: It is more than the app takes, or comes too slowly.
            StorageError: A file can't be stored: no space or no handle is left, or
                the directory is gone.

        Cancellation: every upload is closed, as after every error.
        """
        try:
            boundary, self._charset = multipart_type(self._content_type)
            parser = PartParser(boundary, self)
            threads, reception = self._storage.threads, self._reception
            if reception.size is not None and reception.size <= FEW:
                await self._receive_all(stream, parser, WriteThrough(threads, reception.at_rest))
            else:
                async with WriteBehind(threads, reception.at_rest) as writer:
                    await self._receive_all(stream, parser, writer)
                    with told_to_the_client():
                        await writer.flush()
        except BaseException as error:
            let_go_of_all(self._uploads)
            self.field_memory.give_back()
            if isinstance(error, FormParserError):
                raise MultiPartException(INVALID) from error
            raise
        for upload in self._uploads:
            upload.size = upload._view.blob.size
        return self._items

    async def _receive_all(
        self, stream: AsyncIterable[bytes], parser: PartParser, writer: Writer
    ) -> None:
        await self._reception.within_time(self._receive(stream, parser, writer))
        if not self._complete:
            raise MultiPartException(INCOMPLETE)  # divergence 1

    async def _receive(
        self, stream: AsyncIterable[bytes], parser: PartParser, writer: Writer
    ) -> None:
        reception, write = self._reception, None
        async for data in stream:
            reception.take(data)
            if write is None:
                write = parser.begin(data)
            else:
                write(data)
            if self._unwritten or (self._blob is not None and writer.is_due(self._blob)):
                await self._write_out(writer)

    async def _write_out(self, writer: Writer) -> None:
        """Write what is due before more is received: this bounds the memory."""
        finished, self._unwritten = self._unwritten, []
        with told_to_the_client():
            for blob in finished:
                await writer.write(blob)
            if self._blob is not None and writer.is_due(self._blob):
                await writer.write(self._blob)

    # What the parser tells

    def begin_part(self, headers: RawHeaders, name: bytes | None, filename: bytes | None) -> None:
        """Begin a file or a field.

        Raises:
            MultiPartException: It has no name, or is one too many.
            UploadRefused: It is a file of a type that is not taken.
        """
        if name is None:
            raise MultiPartException(
                'The Content-Disposition header field "name" must be provided.'
            )
        self._field_name = self._decode(name)
        if filename is not None:
            self._begin_file(self._decode(filename), Headers(raw=headers))
            return
        self._blob = None
        self._field_data = bytearray()
        self._fields += 1
        if self._fields > self._max_fields:
            raise MultiPartException(
                f"Too many fields. Maximum number of fields is {self._max_fields}."
            )

    def _begin_file(self, filename: str, headers: Headers) -> None:
        if len(self._uploads) + 1 > self._max_files:
            raise MultiPartException(
                f"Too many files. Maximum number of files is {self._max_files}."
            )
        self._allowance = self._limits.of(self._field_name, headers)
        if self._allowance.instead and filename:  # else it may be a file input that was left blank
            raise self._allowance.refusal(self._field_name)
        self._head = self._allowance.head
        self._blob = Blob(self._storage)
        upload = Upload(
            self._blob,
            owner=self._owner,
            filename=filename,
            headers=headers,
            field_name=self._field_name,
            origin=self._origin,
        )
        self._uploads.append(upload)

    def add_data(self, data: bytes, start: int, end: int) -> None:
        """Take what comes next of a part.

        Raises:
            MultiPartException: A field is too large.
            UploadRefused: There is more than the app takes, or it is not what was declared.
        """
        if self._blob is not None:
            if self._blob.size + end - start > self._allowance.max_size:
                raise self._allowance.refusal(self._field_name)
            if self._head is not None and self._head.add(data[start:end]):
                self._head = None
            if _VIEW <= end - start < len(data) and type(data) is bytes:
                self._blob.append(memoryview(data)[start:end])
            else:
                self._blob.append(data[start:end])
            return
        if len(self._field_data) + end - start > self._max_part_size:
            limit = int(self._max_part_size / 1024)
            raise MultiPartException(f"Part exceeded maximum size of {limit}KB.")
        self._field_data += data[start:end]
        self.field_memory.add(end - start)

    def end_part(self) -> None:
        """Keep a file or a field.

        Raises:
            UploadRefused: A file is not what was declared.
        """
        if self._blob is None:
            self._items.append((self._field_name, self._decode(self._field_data)))
            return
        upload = self._uploads[-1]
        if self._head is not None and (self._blob.size or upload.filename):  # it was not left blank
            self._head.check()
        self._items.append((self._field_name, upload))
        if self._blob.unwritten:
            self._unwritten.append(self._blob)
        self._blob = None

    def end_form(self) -> None:
        """Know that nothing is missing."""
        self._complete = True

    def _decode(self, data: bytes | bytearray) -> str:
        try:
            return data.decode(self._charset)
        except (LookupError, ValueError):  # divergence 11
            return data.decode("latin-1")
