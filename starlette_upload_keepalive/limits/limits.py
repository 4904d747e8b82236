"""How much may come in, over all requests."""

from __future__ import annotations

from dataclasses import dataclass

from starlette_upload_keepalive.quantities import MIB, check_least, check_seconds


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much may come in: given to ``Uploads(limits=...)``.

    What is over a limit is refused when the form is asked for: where that can be told,
    before any of the body is read. With ``Expect: 100-continue`` the refusal then comes
    in place of the 100 (RFC 9110, 10.1.1), and the client keeps its bytes.

    Args:
        max_file_size: The bytes of a file; 413. No limit if None. `FieldLimits` and
            handlers may have smaller ones.
        max_request_size: The bytes of a body that is a form; 413. No limit if None.
        max_concurrency: How many forms are received at once; 503.
        max_open_files: How many files that are not in memory are open at once; 503.
            Half of what the process may open (``RLIMIT_NOFILE``) if None.
        max_pending_jobs: With how many jobs that are not done no more forms are taken
            in; 503.
        max_disk_bytes: The bytes of files that are not in memory, with those of jobs that
            wait in a spool; 507. No limit but the next if None.
        min_free_space: The bytes that are to stay free where files are stored; 507.
        receive_timeout: The seconds that a client may send nothing; 408. No limit if
            None. The default is that of nginx (``client_body_timeout``).
        min_rate: The bytes a second that a body must come with, on average and after
            its first 10 seconds; 408. No limit if None.

    Raises:
        ValueError: A number is out of its range, or ``min_rate`` has no
            ``receive_timeout`` beside it.
    """

    max_file_size: int | None = None
    max_request_size: int | None = None
    max_concurrency: int = 1000
    max_open_files: int | None = None
    max_pending_jobs: int = 10_000
    max_disk_bytes: int | None = None
    min_free_space: int = 64 * MIB
    receive_timeout: float | None = 60.0
    min_rate: int | None = None

    def __post_init__(self) -> None:
        for name, unit in [
            ("max_file_size", " byte"),
            ("max_request_size", " byte"),
            ("max_open_files", ""),
            ("max_disk_bytes", " byte"),
            ("min_rate", " byte a second"),
        ]:
            value: object = getattr(self, name)
            if value is not None:
                check_least(name, value, 1, unit)
        check_least("max_concurrency", self.max_concurrency, 1)
        check_least("max_pending_jobs", self.max_pending_jobs, 1, " job")
        check_least("min_free_space", self.min_free_space, 0, " bytes")
        if self.receive_timeout is not None:
            check_seconds("receive_timeout", self.receive_timeout, zero=False)
        elif self.min_rate is not None:
            raise ValueError(
                "min_rate needs a receive_timeout: what sends nothing at all has no rate."
            )
