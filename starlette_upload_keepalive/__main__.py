"""``python -m starlette_upload_keepalive spool DIR list``."""

from __future__ import annotations

import sys

from .spool.command_line import main

if __name__ == "__main__":  # pragma: no branch - nobody imports it
    sys.exit(main())
