"""Backbones are read once per process; here once per test."""

from tests.models.conftest import fresh_process as fresh_process
