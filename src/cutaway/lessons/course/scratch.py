"""Everything together: a container from an image's layers to a web server that answers, without a container engine."""

from __future__ import annotations

from cutaway.lessons.lesson import Lesson, ask, check, do, say, take_down, terminal

_ENVIRONMENT = "env -i PATH=/bin:/usr/sbin TERM=dumb"

LESSON = Lesson(
    "scratch",
    "A whole container by hand",
    needs=("busybox", "tar", "mount", "ip", "unshare", "chroot", "pgrep"),
    steps=(
        say("""
            An image is a few tar archives with a description; `docker save` gives them to you. This one is made on the
            spot. Its first layer is busybox, which is a whole small system in one file:
        """),
        do("mkdir -p base/{bin,dev,etc,proc,root,run,tmp,var}\ncp $(which busybox) base/bin/"),
        do("chroot base /bin/busybox --install -s /bin && ls base/bin | wc -l"),
        do("echo root:x:0:0::/root:/bin/sh > base/etc/passwd\necho root:x:0: > base/etc/group"),
        do("tar -C base -cf layer1.tar ."),
        say("The second layer is what our container is for: a web server, and a page for it to serve."),
        do("mkdir -p web/www\necho 'Hello from a container made by hand' > web/www/index.html"),
        say("This machine has nginx. It comes along with the libraries it is linked with.", on="nginx"),
        do("mkdir -p web/etc web/var/lib/nginx web/var/log/nginx", on="nginx"),
        do("cp --parents $(which nginx) $(ldd $(which nginx) | grep -o '/[^ ]*') web/", on="nginx"),
        do(
            "echo 'user root; worker_processes 1; pid /run/nginx.pid; events {}\n"
            "http { access_log off; server { listen 80; root /www; } }' \\\n  > web/etc/nginx.conf",
            on="nginx",
        ),
        say("""
            (nginx is not installed on this machine, so the server is busybox's own, `httpd`. With nginx installed, the
            lesson takes nginx.)
        """, on="no nginx"),
        do("tar -C web -cf layer2.tar . && ls -sh layer*.tar"),
        say("That was the image. Each layer is unpacked into a directory, and an overlay puts them together:"),
        do("mkdir -p fs/{1,2,upper,work,root}"),
        do("tar -xf layer1.tar -C fs/1 && tar -xf layer2.tar -C fs/2"),
        do(
            "mount -t overlay -o lowerdir=fs/2:fs/1,upperdir=fs/upper,workdir=fs/work \\\n  overlay fs/root",
            undo="umount fs/root",
        ),
        do("ls -C fs/root"),
        check("Both layers are in it.", "[ -e fs/root/bin/sh ] && [ -e fs/root/www/index.html ]"),
        say("The devices are borrowed from the machine; an engine would make a `/dev` with only the harmless ones."),
        do("mount --bind /dev fs/root/dev", undo="umount fs/root/dev"),
        say("Then a network: a namespace, a bridge, a cable (lesson `bridge` takes its time over this)."),
        do("ip netns add learn", undo="ip netns delete learn"),
        do("ip link add learn1 type bridge", undo="ip link delete learn1"),
        do("ip address add 192.168.22.1/24 dev learn1\nip link set learn1 up"),
        do("ip link add to-learn type veth peer name eth0 netns learn", undo="ip link delete to-learn"),
        do("ip link set to-learn master learn1 up"),
        do("ip -n learn address add 192.168.22.2/24 dev eth0"),
        do("ip -n learn link set lo up\nip -n learn link set eth0 up"),
        do("ip -n learn route add default via 192.168.22.1"),
        say("And a control group that allows 10 MB of memory, and nothing beyond it to be swapped out."),
        do(
            "HAD=$(grep -w memory ‹memory tree›/cgroup.subtree_control)\n"
            "echo +memory > ‹memory tree›/cgroup.subtree_control",
            undo='[ "$HAD" ] || echo -memory > ‹memory tree›/cgroup.subtree_control',
            on="v2",
        ),
        do("mkdir ‹memory tree›/learn", undo="rmdir ‹memory tree›/learn"),
        do("echo 10M > ‹memory tree›/learn/memory.limit_in_bytes", on="v1"),
        do("echo 0 > ‹memory tree›/learn/memory.swappiness", on="v1"),
        do("echo 10M > ‹memory tree›/learn/memory.max", on="v2"),
        do("[ ! -e ‹memory tree›/learn/memory.swap.max ] ||\n  echo 0 > ‹memory tree›/learn/memory.swap.max", on="v2"),
        say("""
            All is ready but a process. `ip netns exec` enters the network, `unshare` makes the other namespaces,
            `chroot` makes our overlay the root, `env -i` leaves the variables behind:
        """),
        terminal(
            "container",
            f"ip netns exec learn unshare --fork --pid --mount --uts --ipc \\\n  chroot fs/root {_ENVIRONMENT} /bin/sh",
        ),
        do("mount -t proc proc /proc && hostname handmade", at="container"),
        ask(
            "How many processes will `ps` list in there?",
            right="two: the shell and ps",
            wrong=("all of the machine", "one"),
            because="Its PID namespace is new, and /proc is mounted in it.",
        ),
        do("hostname; ps", at="container"),
        do("ls -C /", at="container"),
        check("The shell is process 1.", "[ $$ = 1 ]", at="container"),
        check("The machine's own name has not changed.", '[ "$(hostname)" != handmade ]'),
        say("From outside, the shell is put into the control group; what it starts will be in there, too."),
        do("INNER=$(pgrep -P $(pgrep -n -f '^unshare --fork --pid --mount'))\necho $INNER"),
        do("echo $INNER > ‹memory tree›/learn/cgroup.procs"),
        do("nginx -c /etc/nginx.conf", at="container", on="nginx"),
        do("httpd -h /www", at="container", on="no nginx"),
        do("wget -qO- http://127.0.0.1/", at="container"),
        say("It answers inside. And from the host, at the address we gave it:"),
        do("‹get› http://192.168.22.2/"),
        check("nginx answers from the host.", "‹get› http://192.168.22.2/ | grep -q 'made by hand'", on="nginx"),
        check("httpd answers from the host.", "‹get› http://192.168.22.2/ | grep -q 'made by hand'", on="no nginx"),
        do("ps -o pid,rss,args $(cat ‹memory tree›/learn/cgroup.procs)"),
        ask(
            "The group may use 10 MB. What happens when a process in it wants 50?",
            right="the kernel kills that process",
            wrong=("it waits until there is memory", "it is told that there is none left", "the whole group is killed"),
            because="Memory is promised freely and handed out when touched; by then killing is all that is left to do.",
        ),
        do("head -c 50m /dev/zero | tail", at="container", fails=True),
        check("It was the group's limit.", "grep -q '^oom_kill [1-9]' ‹memory tree›/learn/memory.oom_control", on="v1"),
        check("It was the group's limit.", "grep -q '^oom_kill [1-9]' ‹memory tree›/learn/memory.events", on="v2"),
        check("The server is still there.", "‹get› http://192.168.22.2/ | grep -q 'made by hand'"),
        say("What the container has written lies in the upper directory, and would be what `docker commit` keeps:"),
        do("find fs/upper -type f"),
        take_down(),
        check("The overlay is unmounted.", "! grep -q \"$PWD\" /proc/self/mounts"),
        check("The bridge and the network namespace are gone.", "! ip link show learn1 && ! ip netns pids learn"),
        check("The control group is gone.", "[ ! -e ‹memory tree›/learn ]"),
        check("And so are its processes.", "[ ! -e /proc/$INNER ]"),
        say("This is a container engine. The rest is doing it quickly, safely, and a thousand times."),
    ),
)  # fmt: skip
