"""Guests: what vlab boots, where it comes from, and how it gets into memory."""

from __future__ import annotations
