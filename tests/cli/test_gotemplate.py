"""Templates give what `docker inspect --format` (28.2) gave for a container like this one."""

from __future__ import annotations

import pytest

from cutaway.cli.gotemplate import TemplateError, parse, render
from cutaway.engine.model import Config, Container, EndpointSettings, NetworkSettings, PortBinding, State

CONTAINER = Container(
    Id="0123456789abcdef",
    Created="2026-11-21T18:19:54.32496079Z",
    Name="/web",
    Path="sleep",
    Args=["1000"],
    State=State(Status="running", Running=True, Pid=9746),
    Config=Config(
        Image="busybox",
        Env=["A=1", "B=two words"],
        Cmd=["sleep", "1000"],
        Labels={"com.x.y": "z", "a": "b"},
    ),
    NetworkSettings=NetworkSettings(
        Ports={
            "80/tcp": [PortBinding(HostIp="0.0.0.0", HostPort="8099"), PortBinding(HostIp="::", HostPort="8099")],
            "81/tcp": [],
        },
        Networks={"bridge": EndpointSettings(IPAddress="172.17.0.2")},
    ),
)

GIVES = [
    ("{{.Name}}", "/web"),
    ("{{.State.Pid}} {{.State.Running}}", "9746 true"),
    ("{{.Config.Env}}", "[A=1 B=two words]"),
    ("{{.Config.Labels}}", "map[a:b com.x.y:z]"),
    ("{{.Config.Cmd}} {{.Config.Entrypoint}} {{.Config.Volumes}}", "[sleep 1000] [] map[]"),
    ("{{.HostConfig.PidsLimit}} {{.HostConfig.CapAdd}} {{.HostConfig.Memory}}", "<nil> [] 0"),
    ("{{.HostConfig.RestartPolicy}}", "{no 0}"),
    ("{{.NetworkSettings.Ports}}", "map[80/tcp:[{0.0.0.0 8099} {:: 8099}] 81/tcp:[]]"),
    ("{{.NetworkSettings.Networks.bridge.IPAddress}}", "172.17.0.2"),
    ("{{json .Config.Labels}}", '{"a":"b","com.x.y":"z"}'),
    ("{{json .HostConfig.CapAdd}} {{json .HostConfig.PidsLimit}}", "null null"),
    ("{{.Config.Env | json}}", '["A=1","B=two words"]'),
    ('{{index .Config.Labels "com.x.y"}}|{{index .Config.Labels "none"}}|', "z||"),
    ("{{.Config.Labels.a}} {{.Config.Labels.none}}", "b <no value>"),
    ("{{index .Config.Env 0}}", "A=1"),
    ('{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}', "8099"),
    ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{range $c}}>{{.HostPort}}{{end}} {{end}}",
     "80/tcp>8099>8099 81/tcp "),
    ("{{range .Config.Env}}{{println .}}{{end}}", "A=1\nB=two words\n"),
    ("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}", "A=1,B=two words"),
    ("{{range .Mounts}}x{{else}}none{{end}}", "none"),
    ("{{range .Config.Env}}{{break}}{{end}}ok{{range .Config.Env}}{{continue}}x{{end}}", "ok"),
    ("{{range 3}}x{{end}}", "xxx"),
    ("{{if .State.Paused}}p{{else if .State.Running}}r{{else}}n{{end}}", "r"),
    ("{{if and .State.Running (not .State.Paused)}}up{{end}}", "up"),
    ("{{if gt (len .Config.Env) 1}}many{{end}}", "many"),
    ("{{with .Config}}{{.Image}}{{end}}{{with .Config.User}}x{{else}}nobody{{end}}", "busyboxnobody"),
    ("{{with $x := .Config.Image}}{{$x}}{{end}}", "busybox"),
    ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
    ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
    ("{{range .Config.Env}}{{$.Name}}{{end}}", "/web/web"),
    ('{{define "x"}}hi {{.}}{{end}}{{template "x" .Name}}', "hi /web"),
    ("{{slice .Id 0 12}} {{slice .Config.Env 1}}", "0123456789ab [B=two words]"),
    ("{{len .Config.Env}} {{len .Name}} {{.Name | len | printf \"%d!\"}}", "2 4 4!"),
    ('{{join .Config.Env ","}} {{join (split "a:b:c" ":") "/"}}', "A=1,B=two words a/b/c"),
    ('{{upper "ab"}} {{lower "AB"}} {{title "hello world"}} {{truncate "hello" 3}} {{pad "x" 2 3}}|',
     "AB ab Hello World hel   x   |"),
    ('{{printf "%s %d %v %5d|%-5s|%05d|%x" .Name 42 true 7 "ab" 42 255}}', "/web 42 true     7|ab   |00042|ff"),
    ('{{printf "%.2f %t %c %8.3s| %+d %o %b %X %q %%" 3.14159 true 65 "abcdef" 5 8 5 255 "q"}}',
     '3.14 true A      abc| +5 10 101 FF "q" %'),
    ('{{printf "%d" "a"}} {{printf "%s" 3}} {{printf "%d %d" 1}} {{printf "%d" 1 2}}',
     "%!d(string=a) %!s(int=3) 1 %!d(MISSING) 1%!(EXTRA int=2)"),
    ('{{print 1 2 "a" "b" 3}} {{println 1 "a"}}', "1 2ab3 1 a\n"),
    ('{{eq .State.Status "running"}} {{ne 1 2}} {{lt 1 2}} {{le 1 1}} {{gt 1 2}} {{ge 1 2}} {{eq 1 2 1}}',
     "true true true true false false true"),
    ('{{and 1 0}} {{or 0 "x"}} {{not true}} {{and .State.Running (eq .State.ExitCode 0)}}', "0 x false true"),
    ("{{/* comment */}}x{{- \" y \" -}} z", "x y z"),
    ("a {{- 1 -}} b  {{- /* gone */ -}}  c", "a1bc"),
    ("{{1.5}} {{0x10}} {{'a'}} {{`raw \"q\"`}} {{\"tab\\t\"}}", '1.5 16 97 raw "q" tab\t'),
    ("no action", "no action"),
]  # fmt: skip

REFUSED = [
    ("{{.Foo}}", 'template: :1:2: executing "" at <.Foo>: map has no entry for key "Foo"'),
    ("{{.State.Foo}}", 'template: :1:8: executing "" at <.State.Foo>: map has no entry for key "Foo"'),
    ("\n{{.Config.Image.Foo}}", "can't evaluate field Foo in type"),
    ("{{index .Config.Env 9}}", "at <index .Config.Env 9>: error calling index: index out of range: 9"),
    ("{{len 3}}", "at <len 3>: error calling len: len of type int"),
    ('{{eq 1 "1"}}', "error calling eq: incompatible types for comparison"),
    ("{{ne 1}}", "at <ne>: wrong number of args for ne: want 2 got 1"),
    ("{{nil}}", "at <nil>: nil is not a command"),
    ("{{upper 3}}", "wrong type for value; expected string; got int"),
    ('{{define "x"}}{{template "x"}}{{end}}{{template "x"}}', "exceeded maximum template depth"),
    ("{{.Name}", "template: :1: bad character U+007D '}'"),
    ("\n\n{{.Name", "template: :3: unclosed action"),
    ("{{foo}}", 'template: :1: function "foo" not defined'),
    ("{{if}}x{{end}}", "template: :1: missing value for if"),
    ("{{if true}}x", "template: :1: unexpected EOF"),
    ("{{end}}", "template: :1: unexpected {{end}}"),
    ("{{$y}}", 'template: :1: undefined variable "$y"'),
    ("{{if true}}{{$y := 1}}{{end}}{{$y}}", 'undefined variable "$y"'),
    ('{{"unterminated}}', "template: :1: unterminated quoted string"),
    ("{{(1}}", "unclosed left paren"),
    ("{{1)}}", "unexpected right paren"),
    ("{{break}}", "{{break}} outside {{range}}"),
]


@pytest.mark.parametrize(("template", "text"), GIVES)
def test_a_template_gives_what_docker_gives(template: str, text: str) -> None:
    assert render(parse(template), CONTAINER) == text


@pytest.mark.parametrize(("template", "reason"), REFUSED)
def test_a_wrong_template_is_refused_in_gos_words(template: str, reason: str) -> None:
    with pytest.raises(TemplateError) as refusal:
        render(parse(template), CONTAINER)
    assert reason in str(refusal.value)
