"""References by Docker's grammar: what a name means, how it is shown, and what Docker says of a wrong one."""

from __future__ import annotations

import pytest

from cutaway.image import references
from cutaway.image.errors import InvalidReference

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "normalised", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        ("library/me/app", "docker.io/library/me/app:latest", "library/me/app:latest"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app:latest"),
        ("UPPER/app", "UPPER/app:latest", "UPPER/app:latest"),
        ("x/a.b-c__d/e---f", "docker.io/x/a.b-c__d/e---f:latest", "x/a.b-c__d/e---f:latest"),
        (f"app@sha256:{HEX}", f"docker.io/library/app@sha256:{HEX}", f"app@sha256:{HEX}"),
        (f"app:v1@sha256:{HEX}", f"docker.io/library/app:v1@sha256:{HEX}", f"app:v1@sha256:{HEX}"),
        (f"app:{'t' * 128}", f"docker.io/library/app:{'t' * 128}", f"app:{'t' * 128}"),
    ],
)
def test_what_a_name_means(written: str, normalised: str, familiar: str) -> None:
    reference = references.parse(written).tagged()
    assert (str(reference), reference.familiar) == (normalised, familiar)
    assert references.parse(str(reference)) == reference


@pytest.mark.parametrize(
    "written",
    [
        *(
            "",
            " ",
            "a b",
            "-a",
            "a-",
            "a_-b",
            "a___b",
            "a..b",
            "ünï",
            "a\n",
            "//x",
            "/x",
            "x/",
            ":tag",
            "app:",
            "app:-x",
        ),
        *("app@sha256:12", "app@sha256:zz", f"app@sha256:{HEX[:-1]}", f"app@sha256:{HEX.upper()}", f"app:{'t' * 129}"),
    ],
)
def test_what_is_no_name(written: str) -> None:
    with pytest.raises(InvalidReference, match=r"^invalid reference format$"):
        references.parse(written)


def test_messages_are_dockers() -> None:
    for written, message in {
        "Foo": "invalid reference format: repository name (library/Foo) must be lowercase",
        "localhost/Bar:v1": "invalid reference format: repository name (Bar) must be lowercase",
        HEX: f"invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings",
        "a" * 300: "repository name must not be more than 255 characters",
    }.items():
        with pytest.raises(InvalidReference) as caught:
            references.parse(written)
        assert str(caught.value) == message


def test_full_ids() -> None:
    assert references.digest_in(HEX) == references.digest_in(f"sha256:{HEX}") == f"sha256:{HEX}"
    assert references.digest_in(HEX[:12]) == references.digest_in("busybox") == ""
    assert references.short_id(f"sha256:{HEX}") == "0123456789ab"
