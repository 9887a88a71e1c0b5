"""The options of `run`, `create`, `exec`: declared once, read into values, turned into what the engine creates."""

from cutaway.engine.options.option import Option, read
from cutaway.engine.options.request import Caller, create_request, reads_files
from cutaway.engine.options.table import CREATE, EXEC, RESOURCES, RUN

__all__ = ["CREATE", "EXEC", "RESOURCES", "RUN", "Caller", "Option", "create_request", "read", "reads_files"]
