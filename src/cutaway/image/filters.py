"""`images --filter`: which of the images in the store a person wants to see, in Docker's words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from cutaway.image import references
from cutaway.image.errors import InvalidFilter
from cutaway.image.store import Image, Listed

_TRUE, _FALSE = ("1", "true", "True", "TRUE", "t", "T"), ("0", "false", "False", "FALSE", "f", "F")


def filtered(
    images: Sequence[Listed], filters: Mapping[str, Sequence[str]], resolve: Callable[[str], Image]
) -> list[Listed]:
    """The images that every one of `filters` lets through: `dangling`, `label`, `reference`, `before`, `since`.

    Of several values of one filter, all must hold, but of `reference` any; then only the tags that match are listed.
    Raises `InvalidFilter`, and what `resolve` raises for the image that `before` or `since` names.
    """
    for name, values in filters.items():
        if name not in _FILTERS:
            raise InvalidFilter(f"invalid filter '{name}'; {', '.join(_FILTERS)} are filters of images")
        images = _FILTERS[name](images, values, resolve)
    return list(images)


def _dangling(images: Sequence[Listed], values: Sequence[str], _resolve: object) -> list[Listed]:
    for value in values:
        if value not in _TRUE + _FALSE:
            raise InvalidFilter(f"invalid filter 'dangling={value}'; it is true or false")
    return [image for image in images if all((not image.tags) == (value in _TRUE) for value in values)]


def _label(images: Sequence[Listed], values: Sequence[str], _resolve: object) -> list[Listed]:
    wanted = [value.partition("=") for value in values]
    return [image for image in images if all(_has_label(image, *label) for label in wanted)]


def _has_label(image: Listed, name: str, equals: str, value: str) -> bool:
    return name in image.labels and (not equals or image.labels[name] == value)


def _reference(images: Sequence[Listed], values: Sequence[str], _resolve: object) -> list[Listed]:
    patterns = [_pattern(value) for value in values]
    matching = [(image, [tag for tag in image.tags if _matches(tag, patterns)]) for image in images]
    return [msgspec.structs.replace(image, tags=tags) for image, tags in matching if tags]


def _matches(tag: str, patterns: Sequence[re.Pattern[str]]) -> bool:
    reference = references.parse(tag)
    written = (reference.familiar, reference.familiar_name, str(reference), reference.name)
    return any(pattern.fullmatch(form) for pattern in patterns for form in written)


def _pattern(text: str) -> re.Pattern[str]:
    """A shell pattern in which, as in Go's `path.Match`, `*` and `?` stop at a slash."""
    forms = {"*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\[[^\]]+\]|.", text)
    pattern = "".join(part if len(part) > 1 else forms.get(part) or re.escape(part) for part in parts)
    try:
        return re.compile(pattern)
    except re.error:
        raise InvalidFilter(f"invalid filter 'reference={text}': it is no pattern") from None


def _before(images: Sequence[Listed], values: Sequence[str], resolve: Callable[[str], Image]) -> list[Listed]:
    limit = min(resolve(value).created for value in values)
    return [image for image in images if image.created < limit]


def _since(images: Sequence[Listed], values: Sequence[str], resolve: Callable[[str], Image]) -> list[Listed]:
    limit = max(resolve(value).created for value in values)
    return [image for image in images if image.created > limit]


_FILTERS: dict[str, Callable[[Sequence[Listed], Sequence[str], Callable[[str], Image]], list[Listed]]] = {
    "dangling": _dangling,
    "label": _label,
    "reference": _reference,
    "before": _before,
    "since": _since,
}
