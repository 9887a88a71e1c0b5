"""Programs that nobody trusts, each in a sandbox of its own: no network, little memory, half a second, and a root file
system that they cannot write to. The image `host` is this machine's own files, so there is nothing to download. Run it
as root.
"""

import cutaway

PROGRAMS = {
    "polite": "echo hello from process $$; exit 3",
    "endless": "while :; do :; done",
    "greedy": "a=x; while :; do a=$a$a; done",
    "fertile": "for child in $(seq 100); do sleep 1000 & done",
    "chatty": "yes",
    "destructive": "echo > /etc/passwd",
}

for name, program in PROGRAMS.items():
    done = cutaway.run(
        "host",
        ["sh", "-c", program],
        network="none",
        memory="32m",
        pids_limit=32,
        read_only=True,
        timeout=0.5,
        max_output=1000,
    )
    reason = "out of time" if done.timed_out else "out of memory" if done.oom_killed else f"exit code {done.exit_code}"
    print(f"{name:12} {reason:14} {done.duration:.3f} s  {done.stdout[:50]!r}")

with cutaway.container("host", network="none", memory="64m", read_only=True, tmpfs="/tmp") as box:
    box.put("/tmp/words", "pear\napple\nfig\n")
    box.exec(["sort", "-o", "/tmp/sorted", "/tmp/words"], timeout=10).check()
    print(box.get("/tmp/sorted").decode().split())
    for stream, line in box.stream(["sh", "-c", "ls -d /proc/[0-9]*; echo done >&2"]):
        print(stream, line.decode().rstrip())
