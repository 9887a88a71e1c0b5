"""Options that several verbs have."""

from __future__ import annotations

from cutaway.engine.options.option import BOOL, LIST, STRING, Option

FORMAT = Option("format", STRING, "How to print: table, table TEMPLATE, json, or a Go template", completes="table|json")
INSPECT_FORMAT = Option("format", STRING, "How to print: json, or a Go template", short="f", completes="json")
FILTER = Option("filter", LIST, "Show only what fits: NAME=VALUE", short="f", completes="filter")
FORCE = Option("force", BOOL, "Without asking", short="f")
QUIET_IDS = Option("quiet", BOOL, "Print IDs only", short="q")
CHANGE = Option("change", LIST, "Dockerfile instruction that applies to the image: CMD, ENV, …", short="c")
NO_TRUNC = Option("no-trunc", BOOL, "Print everything in full length")
