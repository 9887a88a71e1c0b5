"""Makes docs/oci-conformance.md: what the OCI runtime specification demands, and the test that shows it.

    python -m tests.conformance.table

The tests marked `must` are run; their names are the sentences, their documents and sections come from the marks. What
this host could not show is listed with the reason.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

DOCUMENTS = ("runtime.md", "config.md", "config-linux.md")
PAGE = Path(__file__).resolve().parents[2] / "docs/oci-conformance.md"
HEAD = """# What of the OCI runtime specification is shown

`cutaway-oci` implements the [OCI runtime specification](https://github.com/opencontainers/runtime-spec) 1.3 for Linux.
Each line is something that the specification demands, in our words: the name of a test that shows it on a real kernel.
`{command}` makes this page from the tests; it was made on Linux {kernel},
with {cgroups}. What is marked "v2" is shown once more on pure cgroup v2, by `make test-vm`.

That a `config.json` has the right form is shown apart: every field is compared with the specification's JSON schemas,
with some thirty values in its place (`tests/runtime/test_specification.py`).

Where the specification leaves a choice:

| question | answer |
|---|---|
| versions | every 1.x: unknown fields are ignored, as later versions may have more |
| a relative `cgroupsPath` | is below `cutaway/`, which goes with the last one in it; without one it is `cutaway/ID` |
| device rules | after any, the default devices are allowed, and making all; nothing if they allow all but some |
| `root` and mounts of `/dev` by bind | the devices in it are taken as they are, and none is made |
| devices in a user namespace | made on the host and bound, their owner mapped; without its root, the host's own |
| `tmpfs` and `/dev` mounted `ro` | become read-only once mounts and devices inside them are made |
| no umask | 0022 |
| no `HOME` in `process.env` | that of the user in the container's `/etc/passwd`, else `/`, as engines count on |
| sysctls | those that a namespace of the container's own confines; others are an error |
| capabilities that cannot be granted | a warning in `--log` |
| hooks without `env` | have the runtime's own environment (startContainer: the program's); `[]` stays empty |
| configuration of other platforms (`windows`, `vm`, …) | an error |
| AppArmor, SELinux, resctrl, a cgroup controller that the host lacks | an error that names the field |
| `rootfsPropagation` with an `r` (`rslave`), as Docker and podman write it | taken |
"""


class Seen:
    """Collects results: a `pytest` plugin.

    `rows`: (document, section, sentence) → results of its tests; those `on_v2` are run in the virtual machine, too.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str], list[str]] = {}
        self.on_v2: set[tuple[str, str, str]] = set()
        self._places: dict[str, list[tuple[str, str, str]]] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            document = item.get_closest_marker("document")
            name = getattr(item, "originalname", None) or item.name
            sentence = name.removeprefix("test_").replace("_", " ")
            sections = [mark.args[0] for mark in item.iter_markers("must")]
            if document and sections:
                places = [(document.args[0], section, sentence) for section in sections]
                self._places[item.nodeid] = places
                if item.get_closest_marker("vm"):
                    self.on_v2.update(places)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            reason = report.longrepr[2].removeprefix("Skipped: ") if isinstance(report.longrepr, tuple) else ""
            for place in self._places.get(report.nodeid, ()):
                self.rows.setdefault(place, []).append(reason or report.outcome)


def page(seen: Seen) -> str:
    """The page for what was seen."""
    from cutaway.kernel.cgroups import host_layout

    versions = {each.version for each in host_layout().hierarchies}
    kind = {frozenset({1}): "cgroup v1", frozenset({2}): "cgroup v2"}.get(frozenset(versions), "hybrid cgroups")
    head = HEAD.format(command="python -m tests.conformance.table", kernel=os.uname().release, cgroups=kind)
    return "\n".join([head, *_tables(seen), *_unseen(seen.rows)]) + "\n"


def _tables(seen: Seen) -> Iterable[str]:
    sections = list(dict.fromkeys(place[:2] for place in seen.rows))
    for document in DOCUMENTS:
        yield f"## {document}\n"
        yield "| section | shown | |\n|---|---|---|"
        last = ""
        for place in sorted(seen.rows, key=lambda place: sections.index(place[:2])):
            if place[0] == document:
                _, section, sentence = place
                verdict = _verdict(seen.rows[place]) + (", v2" if place in seen.on_v2 else "")
                yield f"| {section if section != last else ''} | {sentence} | {verdict} |"
                last = section
        yield ""


def _verdict(results: list[str]) -> str:
    if "failed" in results:
        return "**fails**"
    shown = results.count("passed")
    return "not on this host" if not shown else f"✓ ×{shown}" if shown > 1 else "✓"


def _unseen(rows: dict[tuple[str, str, str], list[str]]) -> Iterable[str]:
    yield "## What this host could not show\n"
    reasons = {
        f"- {sentence} ({document}, {section}): {result}"
        for (document, section, sentence), results in rows.items()
        for result in results
        if result not in ("passed", "failed")
    }
    yield from sorted(reasons) or ["Nothing."]


if __name__ == "__main__":
    seen = Seen()
    outcome = pytest.main(["-m", "must", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)], plugins=[seen])
    PAGE.write_text(page(seen))
    sys.exit(outcome)
