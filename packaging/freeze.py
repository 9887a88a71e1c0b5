"""Has the command cutaway-oci in a directory start faster: puts its modules, compiled, into one file beside it
(`cutaway.runtime.command.frozen`), and in its place a launcher that takes them from there. Sources that change later
are not heeded: this is for what is installed. Run by the Python that is to run the command:

    PYTHON packaging/freeze.py DIRECTORY
"""

import ast
import marshal
import os
import sys
from importlib import import_module
from pathlib import Path
from types import CodeType

import cutaway

FLOORS = ("kernel", "plan", "runtime")
OF_THE_LIBRARY = ("__future__", "contextvars", "struct")
"""What of Python's own comes from files, and every container needs."""
EXPLANATIONS = ("shell", "shell_undo", "why")
"""Of an operation's faces, those that the command shows nobody."""
LOADER = "cutaway.runtime.command.frozen"
LAUNCHER = """\
#!{python} -IS
import marshal, posix, sys
sys.path.append({site!r})
file = posix.open({file!r}, posix.O_RDONLY)
loader, places = marshal.loads(posix.read(file, {head}))
exec(loader)
thaw({file!r}, stamp_of(file), places)
posix.close(file)
from cutaway.runtime.command.main import main
main()
"""


def main() -> None:
    if "no_debug_ranges" not in sys._xoptions:  # the lines suffice to say where something failed, without columns
        os.execv(sys.executable, [sys.executable, "-X", "no_debug_ranges", *sys.argv])
    directory, package = Path(sys.argv[1]).absolute(), Path(cutaway.__path__[0])
    sources = {"cutaway": package / "__init__.py"} | {
        name: Path(str(import_module(name).__file__)) for name in OF_THE_LIBRARY
    }
    for floor in FLOORS:
        sources |= {name_of(path, package): path for path in sorted(package.glob(f"{floor}/**/*.py"))}
    loader = sources.pop(LOADER)
    file, launcher = directory / "cutaway-oci.modules", directory / "cutaway-oci"
    codes = {name: marshal.dumps(compiled(path)) for name, path in sources.items()}
    head = head_of(compiled(loader), sources, codes)
    replace(file, head + b"".join(codes.values()))
    values = {"python": os.path.realpath(sys.executable), "site": str(package.parent), "head": len(head)}
    replace(launcher, LAUNCHER.format(file=str(file), **values).encode(), 0o755)


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """In one step: engines go on calling the command."""
    passing = path.with_suffix(".new")
    passing.write_bytes(content)
    passing.chmod(mode)
    passing.rename(path)


def name_of(path: Path, package: Path) -> str:
    words = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(words[:-1] if words[-1] == "__init__" else words)


def compiled(path: Path) -> CodeType:
    """Without what only people and linters read: docstrings, what functions take and return, and how operations explain
    themselves."""
    tree = ast.parse(path.read_bytes(), path)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.ClassDef):
            node.body = [each for each in node.body if getattr(each, "name", "") not in EXPLANATIONS] or [ast.Pass()]
    return compile(tree, path, "exec", dont_inherit=True, optimize=2)


def head_of(loader: CodeType, sources: dict[str, Path], codes: dict[str, bytes]) -> bytes:
    """As long as it says that it is: the places it holds begin after it."""
    head = b""
    while True:
        begin, places = len(head), {}
        for name, code in codes.items():
            places[name] = sources[name].name == "__init__.py", begin, len(code)
            begin += len(code)
        longer = marshal.dumps((loader, places))
        if len(longer) == len(head):
            return longer
        head = longer


main()
