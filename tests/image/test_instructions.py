"""`--change`: the Dockerfile instructions that describe how to run an image."""

from __future__ import annotations

import pytest

from cutaway.image.config import Healthcheck, RunConfig
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


def test_what_an_image_or_container_had_is_built_upon() -> None:
    before = RunConfig(env=["PATH=/bin", "HOME=/root"], cmd=["sh"], entrypoint=["/init"], labels={"a": "b"})
    changes = ["ENV PATH=/opt/bin:$PATH X='$HOME' Y=${NONE:-z}${HOME:+w}\\$PATH", "WORKDIR ${HOME}/x", "LABEL c=d"]
    run = applied(changes, before)
    assert run.env == ["PATH=/opt/bin:/bin", "HOME=/root", "X=$HOME", "Y=zw$PATH"]
    assert (run.working_dir, run.labels, run.cmd) == ("/root/x", {"a": "b", "c": "d"}, ["sh"])
    assert before.env == ["PATH=/bin", "HOME=/root"]


def test_a_new_entrypoint_discards_a_command_it_was_not_made_with() -> None:
    before = RunConfig(cmd=["old"], entrypoint=["/old"])
    assert applied(['ENTRYPOINT ["/new"]'], before).cmd is None
    assert applied(['CMD ["new"]', 'ENTRYPOINT ["/new"]'], before).cmd == ["new"]
    assert applied(['CMD ["new"]'], before).entrypoint == ["/old"]


def test_health_and_triggers() -> None:
    run = applied(["HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f localhost", "ONBUILD RUN make"])
    assert run.healthcheck == Healthcheck(test=["CMD-SHELL", "curl -f localhost"], interval=90 * 10**9, retries=2)
    assert run.on_build == ["RUN make"]
    assert applied(['HEALTHCHECK CMD ["a", "b"]']).healthcheck == Healthcheck(test=["CMD", "a", "b"])
    assert applied(["HEALTHCHECK NONE"]).healthcheck == Healthcheck(test=["NONE"])


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
        ("ONBUILD FROM x", "FROM isn't allowed as an ONBUILD trigger"),
        ("HEALTHCHECK --often=1s CMD x", "unknown flag: --often"),
        ("HEALTHCHECK --interval=often CMD x", "invalid argument 'often' for --interval"),
        ("HEALTHCHECK x", "HEALTHCHECK wants NONE, or CMD and a command"),
        ("STOPSIGNAL FLY", "invalid signal: FLY"),
    ],
)
def test_what_is_refused(change: str, message: str) -> None:
    with pytest.raises(InvalidChange) as caught:
        applied([change])
    assert str(caught.value).startswith(message)
