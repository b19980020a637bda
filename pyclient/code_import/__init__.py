"""Recurring imports of foreign code repositories into git mirrors, with the workflow in PostgreSQL."""

from __future__ import annotations

__version__ = "0.1.0"
