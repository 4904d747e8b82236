"""Whether the first bytes of a file contradict the media type that its client has declared."""

from __future__ import annotations

import re

from .media_types import (
    HEIF,
    HTML,
    ISO_MEDIA,
    MPEG_AUDIO,
    PLAIN,
    PROGRAM,
    SIGNED,
    SVG,
    TIFF,
    UNKNOWN,
    XML,
    canonical,
    essence,
    is_picture_or_sound,
    is_text,
    is_untold,
    is_xml,
)
from .signatures import Signatures

HEAD = 1445
"""How many bytes are looked at: as many as by browsers (WHATWG MIME Sniffing, section 5.2)."""

_PDF = "application/pdf"
# Those with a signature whose files may be text from end to end.
_WRITTEN = {_PDF, "application/postscript", "application/rtf"}
_DOCUMENTS = {*_WRITTEN, SVG, XML}
# May hold HTML; other XML may, but does not begin like a page.
_MARKUP = {HTML, "application/xhtml+xml", "text/markdown", "text/x-markdown"}
# Windows calls a CSV so, once Excel is installed.
_CSV_TOO = "application/vnd.ms-excel"

# WHATWG MIME Sniffing, section 7.1, where a tag ends in a space or ">": HTML lets it end in more.
_LIKE_HTML = re.compile(
    rb"<(!doctype\s+html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p)[\s/>]"
    rb"|<!--",
    re.IGNORECASE,
)
_LIKE_PAGE = re.compile(rb"<(!doctype\s+html|html)[\s/>]", re.IGNORECASE)
_LIKE_XML = re.compile(rb"<\?xml\s|<svg[\s/>]", re.IGNORECASE)
_SCRIPT = re.compile(rb"#! ?/")

# The same, section 4: what text has none of, and the white space before a tag.
_BINARY = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_SPACE = b"\t\n\x0c\r "
_UTF_8 = b"\xef\xbb\xbf"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

_PROGRAMS = (  # of Windows; Linux; macOS, and the last of Java, too
    *(b"MZ", b"\x7fELF"),
    *(b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe"),
    b"\xca\xfe\xba\xbe",
)
_BIG_TIFF = (b"II+\0", b"MM\0+")
# The brands of ISO 23008-12 (HEIF) and of AVIF.
_HEIF_BRANDS = re.compile(rb"mif[12]|msf1|avi[fs]|he(ic|ix|im|is|vc|vx|vm|vs)")


class Sniffer:
    """Compares what a client says of a file with how the file begins.

    The signatures are those of puremagic. What a browser takes for HTML is that by
    the MIME Sniffing standard. It does not look further than the first bytes: a
    file that is valid as two types at once passes as one of them.

    Raises:
        ImportError: puremagic is not installed.
    """

    head: int = HEAD
    """How many bytes of a file it wants, or all of a file that has fewer."""

    def __init__(self) -> None:
        self._signatures = Signatures()

    def contradicts(self, content_type: str | None, head: bytes) -> str | None:
        """Tell what a file is, if that is not what was declared.

        Args:
            content_type: What the client has declared, with parameters or without.
            head: The first bytes of the file.

        Returns:
            A media type, which is ``"text/plain"`` or ``"application/octet-stream"``
            for want of a better one; or ``"empty"``; or None if nothing is wrong.
        """
        declared = essence(content_type)
        if is_untold(declared):
            return None
        name = canonical(declared)
        head = head[:HEAD]
        if not head:
            return "empty" if name in SIGNED else None
        text = _text_of(head)
        found = self._find(head, text)
        if name in SIGNED:
            agrees = name in found or (declared == _CSV_TOO and found[0] == PLAIN)
        elif is_text(declared):
            agrees = text is not None and _may_be_text(declared, text, found[0])
        else:
            agrees = found[0] not in (HTML, PROGRAM) and not (
                is_picture_or_sound(declared) and found[0] in _DOCUMENTS
            )
        return None if agrees else found[0]

    def _find(self, head: bytes, text: bytes | None) -> list[str]:
        """List what it may be, the likeliest first. It is the first that a browser acts on."""
        if text is None:
            if head.startswith(_PROGRAMS):
                return [PROGRAM]
            return _beyond_the_library(head) or self._signatures.find(head) or [UNKNOWN]
        if _LIKE_HTML.match(text):
            return [HTML]
        if _LIKE_XML.match(text):
            return [SVG if b"<svg" in text.lower() else XML]
        if _SCRIPT.match(text):
            return [PROGRAM]
        # "BM" begins a bitmap, and many a sentence.
        return [name for name in self._signatures.find(head) if name in _WRITTEN] or [PLAIN]


def _text_of(head: bytes) -> bytes | None:
    """Give a text in UTF-8 or another superset of ASCII, from its first letter; else None."""
    if head.startswith(_UTF_16):
        head = head.decode("utf-16", "replace").encode("utf-8", "replace")
    if _BINARY.search(head):
        return None
    return head.removeprefix(_UTF_8).lstrip(_SPACE)


def _may_be_text(declared: str, text: bytes, found: str) -> bool:
    if declared in _MARKUP:
        return found != _PDF
    if is_xml(declared):
        return text.startswith(b"<") and not _LIKE_PAGE.match(text)
    return found not in (HTML, _PDF)


def _beyond_the_library(head: bytes) -> list[str]:
    """Find what puremagic knows a few of."""
    if head[4:8] == b"ftyp":  # ISO 14496-12
        return [HEIF if _HEIF_BRANDS.fullmatch(head[8:12]) else ISO_MEDIA]
    if head.startswith(_BIG_TIFF):
        return [TIFF]
    if begins_mpeg_audio(head):
        return [MPEG_AUDIO]
    return []


def begins_mpeg_audio(head: bytes) -> bool:
    """Tell whether a frame of MPEG audio begins here (ISO 11172-3, 13818-3)."""
    if len(head) < 4:
        return False
    bits = int.from_bytes(head[:4], "big")
    sync, version, layer = bits >> 21, bits >> 19 & 3, bits >> 17 & 3
    bit_rate, sample_rate = bits >> 12 & 15, bits >> 10 & 3
    # A value of each is reserved. AAC has that of the layer.
    return sync == 0x7FF and version != 1 and layer != 0 and bit_rate != 15 and sample_rate != 3
