"""Tests of starlette-upload-keepalive."""
