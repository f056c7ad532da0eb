"""Runs a real subjobs server in tests."""

from .server import Clock, Faults, Server, StartError, SubjobsError

__all__ = ["Clock", "Faults", "Server", "StartError", "SubjobsError"]
__version__ = "0.1.0"
