"""Image references: `registry.example:5000/team/app:1.2@sha256:…`, by Docker's grammar.

A person writes the familiar form (`busybox`), the store keeps the normalised one (`docker.io/library/busybox:latest`).
The grammar is that of the distribution project's reference package; the messages are those Docker's users know.
"""

from __future__ import annotations

import re

import msgspec

from cutaway.image.errors import InvalidReference

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_OFFICIAL = "library/"
_NAME_MAX = 255

_ALPHANUMERIC = r"[a-z0-9]+"
_SEPARATOR = r"(?:[._]|__|-+)"
_COMPONENT = rf"{_ALPHANUMERIC}(?:{_SEPARATOR}{_ALPHANUMERIC})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"

_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_SHA256 = re.compile(r"sha256:[a-f0-9]{64}")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")


class Reference(msgspec.Struct, frozen=True):
    """A normalised reference: `domain` and `path` are always there, `tag` and `digest` where given."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        return self.name + self._suffix()

    @property
    def name(self) -> str:
        """The repository in full: `docker.io/library/busybox`."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_name(self) -> str:
        """The repository as people write it: `busybox`."""
        if self.domain != DEFAULT_DOMAIN:
            return self.name
        official = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in official else official

    @property
    def familiar(self) -> str:
        """The reference as people write it: `busybox:latest`."""
        return self.familiar_name + self._suffix()

    def tagged(self) -> Reference:
        """The same with the tag `latest` where it has neither tag nor digest."""
        return self if self.tag or self.digest else Reference(self.domain, self.path, DEFAULT_TAG)

    def exact(self) -> Reference:
        """The same without its tag where it has a digest, which alone counts then."""
        return Reference(self.domain, self.path, digest=self.digest) if self.digest else self

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """The normalised reference that `text` stands for; adds domain and `library/`, not the tag.

    Raises `InvalidReference` with Docker's words.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidReference(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    domain, remainder = _split_domain(text)
    match = _REFERENCE.fullmatch(f"{domain}/{remainder}")
    if match is None:
        raise InvalidReference(_reason(remainder))
    found = Reference(domain, match["path"], match["tag"] or "", match["digest"] or "")
    if len(found.name) > _NAME_MAX:
        raise InvalidReference(f"repository name must not be more than {_NAME_MAX} characters")
    if found.digest.startswith("sha256:") and not is_digest(found.digest):
        raise InvalidReference("invalid reference format")
    return found


def familiar(normalised: str) -> str:
    """A normalised reference as people write it; quicker than to parse it."""
    name = normalised.removeprefix(f"{DEFAULT_DOMAIN}/")
    official = name.removeprefix(_OFFICIAL)
    return name if "/" in official else official


def is_digest(text: str) -> bool:
    """Whether `text` is a digest of the only kind the store uses: `sha256:` and 64 lower-case hexadecimal digits."""
    return _SHA256.fullmatch(text) is not None


def digest_in(text: str) -> str:
    """The digest that a full image ID, with or without `sha256:`, stands for; empty where `text` is no full ID."""
    if _IDENTIFIER.fullmatch(text):
        return "sha256:" + text
    return text if is_digest(text) else ""


def short_id(digest: str) -> str:
    """The twelve digits that listings show."""
    return digest.removeprefix("sha256:")[:12]


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    looks_like_host = "." in first or ":" in first or first == "localhost" or first.lower() != first
    domain, remainder = (first, rest) if slash and looks_like_host else (DEFAULT_DOMAIN, text)
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder


def _reason(remainder: str) -> str:
    path = re.split("[:@]", remainder, maxsplit=1)[0]
    if re.fullmatch(rf"{_COMPONENT}(?:/{_COMPONENT})*", path.lower()) and path != path.lower():
        return f"invalid reference format: repository name ({path}) must be lowercase"
    return "invalid reference format"
