"""The options of `run` and `create`: declared in one table, read into values, turned into what the engine creates."""

from cutaway.engine.options.option import Option, read
from cutaway.engine.options.request import Caller, create_request
from cutaway.engine.options.table import CREATE, RESOURCES, RUN

__all__ = ["CREATE", "RESOURCES", "RUN", "Caller", "Option", "create_request", "read"]
