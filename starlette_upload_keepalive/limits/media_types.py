"""The media types that can be told by how a file begins, under all their names."""

from __future__ import annotations

import re

HTML = "text/html"
SVG = "image/svg+xml"
XML = "text/xml"
PLAIN = "text/plain"
UNKNOWN = "application/octet-stream"
PROGRAM = "application/x-executable"
ISO_MEDIA = "video/mp4"
HEIF = "image/heif"
TIFF = "image/tiff"
MPEG_AUDIO = "audio/mpeg"

# Each with its other names: those that clients declare, those that puremagic finds, and those of
# what is in the same container, since its first bytes tell no more.
_SIGNED = {
    "image/png": "image/apng image/vnd.mozilla.apng image/x-png",
    "image/jpeg": "image/jpg image/pjpeg",
    "image/gif": "",
    "image/webp": "",
    "image/bmp": "image/x-bmp image/x-ms-bmp image/x-windows-bmp",
    TIFF: "image/tif image/x-tiff",
    "image/x-icon": "image/ico image/vnd.microsoft.icon",
    "image/jxl": "",
    "image/vnd.adobe.photoshop": "application/x-photoshop image/x-photoshop image/psd",
    HEIF: "image/avif image/avif-sequence image/heic image/heic-sequence image/heif-sequence",
    ISO_MEDIA: "application/mp4 audio/mp4 audio/m4a audio/x-m4a audio/x-m4b video/x-m4v "
    "video/x-f4v video/quicktime video/3gpp video/3gpp2 audio/3gpp audio/3gpp2",
    "video/webm": "audio/webm video/x-matroska audio/x-matroska video/matroska audio/matroska "
    "application/x-matroska",
    "video/x-msvideo": "video/avi video/msvideo video/vnd.avi",
    "video/mpeg": "video/x-mpeg video/dvd",
    "video/x-flv": "video/flv",
    "video/x-ms-asf": "video/x-ms-wmv audio/x-ms-wma application/vnd.ms-asf",
    MPEG_AUDIO: "audio/mp2 audio/mp3 audio/mpeg3 audio/x-mp3 audio/x-mpeg audio/x-mpeg-3",
    "audio/wav": "audio/wave audio/x-wav audio/x-pn-wav audio/vnd.wave",
    "audio/flac": "audio/x-flac",
    "audio/aac": "audio/aacp audio/x-aac audio/x-hx-aac-adts",
    "audio/aiff": "audio/x-aiff",
    "application/ogg": "audio/ogg video/ogg audio/opus audio/speex audio/vorbis "
    "audio/x-vorbis+ogg audio/x-opus+ogg video/x-theora+ogg",
    "application/pdf": "application/x-pdf",
    "application/rtf": "application/x-rtf text/rtf text/richtext",
    "application/postscript": "application/eps application/x-eps image/eps image/x-eps",
    "application/zip": "application/x-zip application/x-zip-compressed application/java-archive "
    "application/x-java-archive application/vnd.android.package-archive "
    "application/vnd.google-earth.kmz application/x-xpinstall",
    "application/gzip": "application/x-gzip application/gzip-compressed application/x-tgz",
    "application/x-bzip2": "application/bzip2 application/x-bzip",
    "application/x-xz": "application/xz",
    "application/x-7z-compressed": "",
    "application/vnd.rar": "application/x-rar application/x-rar-compressed "
    "application/vnd.comicbook-rar",
    "application/zstd": "application/x-zstd application/x-zstd-compressed-tar",
    "application/x-tar": "application/tar application/x-gtar application/x-ustar",
    "application/x-ole-storage": "application/msword application/vnd.ms-excel "
    "application/vnd.ms-powerpoint application/vnd.ms-outlook application/vnd.ms-project "
    "application/vnd.visio application/x-visio application/x-msi",
    "font/woff": "application/font-woff application/x-font-woff",
    "font/woff2": "application/font-woff2 application/x-font-woff2",
    PROGRAM: "application/vnd.microsoft.portable-executable application/x-msdownload "
    "application/x-msdos-program application/x-dosexec application/x-ms-dos-executable "
    "application/x-elf application/x-pie-executable application/x-sharedlib "
    "application/x-mach-binary application/java application/java-vm",
}
SIGNED = frozenset(_SIGNED)
"""Types whose files begin in a way that is known, each by one of its names."""

_NAMES = {name: each for each, names in _SIGNED.items() for name in (each, *names.split())}
_ZIPPED = re.compile(
    r"application/(vnd\.openxmlformats-officedocument\..+|vnd\.oasis\.opendocument\.(?!.+-xml$).+"
    r"|vnd\.ms-.+\.macroenabled\.12|.+\+zip)"
)
_TEXT = re.compile(
    r"text/.+|.+\+(json|xml|yaml)"
    r"|application/(x-)?(csh|ecmascript|httpd-php|javascript|json|json-seq|jsonl|latex|mpegurl"
    r"|ndjson|perl|php|python|ruby|sh|shellscript|sql|subrip|tex|toml|typescript|xml|xml-dtd|yaml)"
    r"|audio/(x-)?(mpegurl|scpls)"
)
_XML = re.compile(r".+[/+]xml")
_PICTURE_OR_SOUND = re.compile(r"(image|audio|video|font)/.+")
# What clients say that do not know.
_UNTOLD = {"", UNKNOWN, "application/unknown", "binary/octet-stream"}


def essence(content_type: str | None) -> str:
    """Give a content type without its parameters, in small letters."""
    return (content_type or "").partition(";")[0].strip().lower()


def canonical(essence: str) -> str:
    """Give the one name of a type that has several."""
    if _ZIPPED.fullmatch(essence):
        return "application/zip"
    return _NAMES.get(essence, essence)


def is_untold(essence: str) -> bool:
    """Tell whether a type says nothing of what is in the file."""
    return essence in _UNTOLD


def is_text(essence: str) -> bool:
    """Tell whether files of a type are text, mark-up and source code among it."""
    return _TEXT.fullmatch(essence) is not None


def is_xml(essence: str) -> bool:
    """Tell whether files of a type are XML."""
    return _XML.fullmatch(essence) is not None


def is_picture_or_sound(essence: str) -> bool:
    """Tell whether files of a type are images, audio, video or fonts."""
    return _PICTURE_OR_SOUND.fullmatch(essence) is not None
