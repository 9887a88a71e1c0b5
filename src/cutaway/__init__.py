"""Cutaway: a container engine you can see inside."""

__version__ = "0.1.0"
