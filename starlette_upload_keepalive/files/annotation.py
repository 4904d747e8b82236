"""What makes a class the annotation of a file in a FastAPI endpoint."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from starlette.datastructures import UploadFile

if TYPE_CHECKING:
    from typing_extensions import Self


class FileAnnotation:
    """For a subclass of ``UploadFile``, so that ``photo: Upload`` is a file parameter.

    pydantic and FastAPI ask for these methods by name; neither is imported.
    """

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Mapping[str, Any]:
        # pydantic 2.0 refuses the "with-info" form here.
        return {
            "type": "function-plain",
            "function": {"type": "no-info", "function": cls._validate},
        }

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        # Each FastAPI describes a file in its own way.
        theirs = sys.modules["fastapi.datastructures"].UploadFile
        schema = theirs.__get_pydantic_json_schema__(core_schema, handler)
        return cast("dict[str, Any]", schema)

    @classmethod
    def _validate(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, UploadFile):
            raise RuntimeError(  # noqa: TRY004 - the app is at fault, not the client
                "The form was not parsed by UploadKeepAliveMiddleware: add it to the app, "
                "or annotate the parameter with UploadFile."
            )
        raise ValueError(f"Expected UploadFile, received: {type(value)}")
