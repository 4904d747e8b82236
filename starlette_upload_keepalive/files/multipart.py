"""From a body's stream to uploads: drives python-multipart and batches the writes."""

from __future__ import annotations

import codecs
import re
from collections.abc import AsyncIterable, Callable
from contextlib import suppress

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException

from starlette_upload_keepalive.limits.field_limits import UNLIMITED, FormLimits
from starlette_upload_keepalive.limits.head_check import HeadCheck
from starlette_upload_keepalive.limits.reception import Reception
from starlette_upload_keepalive.quantities import KIB

from .blob import Blob
from .disk_errors import told_to_the_client
from .field_memory import FieldMemory
from .storage import Storage
from .upload import Origin, Upload, let_go_of_all
from .write_behind import WriteBehind
from .write_through import FEW, WriteThrough

# What the newest python-multipart refuses by itself; earlier ones have no such limits.
_MAX_BOUNDARY = 256
_MAX_PART_HEADERS = 8
_MAX_PART_HEADER = 4096 + 128

# Codecs of domain names, and none of a text: punycode takes 20 s for a megabyte.
_NO_CHARSETS = {"idna", "punycode"}

# What clients send nearly always; python-multipart's own parser takes five times as long.
_PLAIN_CONTENT_TYPE = re.compile(r"multipart/form-data; ?boundary=([\w'()+,./:?-]+)", re.ASCII)
_PLAIN_DISPOSITION = re.compile(rb'form-data; name="([^"\\]*)"(?:; filename="([^"\\]*)")?')

# From here on a slice for the disk is not copied; until it is written it keeps its message. One of
# a bytearray always is: a middleware that sends those, against the ASGI specification, may use it
# again.
_VIEW = 64 * KIB

INVALID = "Invalid multipart data."
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
        self._disposition: bytes | None = None
        self._part_headers: list[tuple[bytes, bytes]] = []
        self._header_name = b""
        self._header_value = b""

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
            parser = self._parser()
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

    def _parser(self) -> _Parser:
        if len(self._content_type) > _MAX_PART_HEADER:  # divergence 13
            raise MultiPartException(INVALID)
        boundary = self._boundary()
        if len(boundary) > _MAX_BOUNDARY:
            raise MultiPartException(INVALID)
        calls: dict[str, Callable[..., None]] = {
            "part_begin": self._on_part_begin,
            "part_data": self._on_part_data,
            "part_end": self._on_part_end,
            "header_field": self._on_header_field,
            "header_value": self._on_header_value,
            "header_end": self._on_header_end,
            "headers_finished": self._on_headers_finished,
            "end": self._on_end,
        }
        return _Parser(boundary, calls)

    def _boundary(self) -> bytes:
        plain = _PLAIN_CONTENT_TYPE.fullmatch(self._content_type)
        if plain is not None:
            return plain[1].encode()
        _, options = parse_options_header(self._content_type)
        charset = options.get(b"charset", b"utf-8").decode("latin-1")
        self._charset = "latin-1"  # divergence 11
        with suppress(LookupError, ValueError):
            if (name := codecs.lookup(charset).name) not in _NO_CHARSETS:
                self._charset = name
        boundary = options.get(b"boundary")
        if boundary is None:
            raise MultiPartException("Missing boundary in multipart.")
        return boundary

    async def _receive_all(
        self, stream: AsyncIterable[bytes], parser: _Parser, writer: Writer
    ) -> None:
        await self._reception.within_time(self._receive(stream, parser, writer))
        parser.finalize()
        if not self._complete:
            raise MultiPartException(INCOMPLETE)  # divergence 1

    async def _receive(self, stream: AsyncIterable[bytes], parser: _Parser, writer: Writer) -> None:
        reception = self._reception
        async for data in stream:
            reception.take(data)
            parser.write(data if parser.begun else parser.past_preamble(data))
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

    # Called by the parser

    def _on_part_begin(self) -> None:
        self._blob = None
        self._field_name = ""
        self._field_data = bytearray()
        self._disposition = None
        self._part_headers = []

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        if len(self._header_name) > _MAX_PART_HEADER:
            raise MultiPartException(INVALID)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        if len(self._header_name) + len(self._header_value) > _MAX_PART_HEADER:
            raise MultiPartException(INVALID)

    def _on_header_end(self) -> None:
        name, value = self._header_name.lower(), self._header_value
        self._header_name = self._header_value = b""
        if name == b"content-disposition":
            self._disposition = value
        self._part_headers.append((name, value))
        if len(self._part_headers) > _MAX_PART_HEADERS:
            raise MultiPartException(INVALID)

    def _on_headers_finished(self) -> None:
        options = _options_of(self._disposition)
        name = options.get(b"name")
        if name is None:
            raise MultiPartException(
                'The Content-Disposition header field "name" must be provided.'
            )
        self._field_name = self._decode(name)
        filename = options.get(b"filename")
        if filename is not None:
            self._begin_file(self._decode(filename))
            return
        self._fields += 1
        if self._fields > self._max_fields:
            raise MultiPartException(
                f"Too many fields. Maximum number of fields is {self._max_fields}."
            )

    def _begin_file(self, filename: str) -> None:
        if len(self._uploads) + 1 > self._max_files:
            raise MultiPartException(
                f"Too many files. Maximum number of files is {self._max_files}."
            )
        headers = Headers(raw=self._part_headers)
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

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
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

    def _on_part_end(self) -> None:
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

    def _on_end(self) -> None:
        self._complete = True

    def _decode(self, data: bytes | bytearray) -> str:
        try:
            return data.decode(self._charset)
        except (LookupError, ValueError):  # divergence 11
            return data.decode("latin-1")


class _Parser(MultipartParser):
    """Knows what to call, instead of making up its name for each of a part's dozen events."""

    def __init__(self, boundary: bytes, calls: dict[str, Callable[..., None]]) -> None:
        super().__init__(boundary)
        self._calls = calls
        self._in_preamble = False
        self.begun: bool = False

    def past_preamble(self, data: bytes) -> bytes:
        """Leave out what comes before the first boundary; it has `begun` with the rest.

        What follows on a line end is skipped up to a hyphen that may begin a boundary: by itself
        python-multipart does so to the end of one message (divergence 10).
        """
        self._in_preamble = self._in_preamble or data[:1] in (b"\r", b"\n")
        if self._in_preamble:
            data = data[data.find(b"-") :] if b"-" in data else b""
        self.begun = bool(data)
        return data

    def callback(
        self, name: str, data: bytes | None = None, start: int | None = None, end: int | None = None
    ) -> None:
        """Call what is to be told, if somebody is."""
        call = self._calls.get(name)
        if call is None:
            return
        if data is None:
            call()
        else:
            call(data, start, end)


def _options_of(disposition: bytes | None) -> dict[bytes, bytes]:
    plain = _PLAIN_DISPOSITION.fullmatch(disposition or b"")
    if plain is None:
        return parse_options_header(disposition)[1]
    name, filename = plain.groups()
    return {b"name": name} if filename is None else {b"name": name, b"filename": filename}
