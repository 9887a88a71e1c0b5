"""`--change`: the Dockerfile instructions that describe how to run an image."""

from __future__ import annotations

import pytest

from cutaway.image.errors import InvalidChange
from cutaway.image.instructions import applied


def test_commands_in_exec_and_shell_form() -> None:
    run = applied(['CMD ["sh", "-c", "echo \\"hi\\""]', "entrypoint exec top -b"])
    assert run.cmd == ["sh", "-c", 'echo "hi"']
    assert run.entrypoint == ["/bin/sh", "-c", "exec top -b"]


def test_environment_and_labels() -> None:
    run = applied(
        [
            "ENV A=1 B=\"two words\" C='single \\n' D=x\\ y",
            "ENV A=2",
            "ENV OLD the whole  rest",
            'LABEL "a b"=c d=',
            "LABEL d=e",
        ]
    )
    assert run.env == ["A=2", "B=two words", "C=single \\n", "D=x y", "OLD=the whole  rest"]
    assert run.labels == {"a b": "c", "d": "e"}


def test_ports_volumes_and_places() -> None:
    run = applied(["EXPOSE 80 53/udp 8000-8002/TCP", 'VOLUME ["/a b", "/c"]', "VOLUME /d /e"])
    assert list(run.exposed_ports or ()) == ["80/tcp", "53/udp", "8000/tcp", "8001/tcp", "8002/tcp"]
    assert list(run.volumes or ()) == ["/a b", "/c", "/d", "/e"]
    run = applied(["WORKDIR /srv", "WORKDIR app/../data", "USER 1000:1000", "STOPSIGNAL SIGQUIT"])
    assert (run.working_dir, run.user, run.stop_signal) == ("/srv/data", "1000:1000", "SIGQUIT")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("RUN make", "RUN is not a valid change command"),
        ("", "'' is not a valid change command"),
        ("CMD", "CMD requires at least one argument"),
        ("ENV A", "ENV must have two arguments"),
        ("ENV A=1 B", "ENV wants NAME=VALUE, not B"),
        ("EXPOSE 0", "invalid containerPort: 0"),
        ("EXPOSE 90-80", "invalid containerPort: 90-80"),
        ("EXPOSE 80/icmp", "invalid containerPort: 80/icmp"),
        ("STOPSIGNAL FLY", "invalid signal: FLY"),
    ],
)
def test_what_is_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidChange) as caught:
        applied([change])
    assert str(caught.value).startswith(message)
