"""Go's templates, as people's scripts hold them in `--format`. <https://pkg.go.dev/text/template>

template = parse("{{range .Ports}}{{.HostPort | printf \"%5s\"}}{{end}}")
text = render(template, value)
"""

from __future__ import annotations

from typing import Any

from cutaway.cli.gotemplate import parser
from cutaway.cli.gotemplate.evaluator import NAMES, Evaluator
from cutaway.cli.gotemplate.lexer import TemplateError
from cutaway.cli.gotemplate.parser import Template

__all__ = ["Template", "TemplateError", "parse", "render"]


def parse(source: str) -> Template:
    """Reads a template. Raises `TemplateError` with Go's reason."""
    return parser.parse(source, NAMES)


def render(template: Template, value: Any) -> str:
    """Carries a template out on a msgspec struct, dict, list, or anything those hold. Raises `TemplateError`."""
    return Evaluator(template).run(value)
