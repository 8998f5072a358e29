"""ES modules joined into one file: small sources to read, one request to load.

Only the plain forms of import and export are joined: `import { A, B } from "./other.js";`, and `export` before a class,
a function or a constant. Anything else is an error, as is a name that two modules give to different things.
"""

import posixpath
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

IMPORT = re.compile(r'^import \{([^}]*)\} from "(\.{1,2}/[^"]+)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:class|const|function|async function) (\w+))", re.MULTILINE)
NAMED = re.compile(r"^(?:class|const|let|function|async function) (\w+)", re.MULTILINE)
LEFT = re.compile(r"^(?:import|export)\b.*", re.MULTILINE)


class ScriptError(Exception):
    """Modules that cannot be joined."""


@dataclass(frozen=True)
class Module:
    """A module's own code, the names that it exports, and those that it imports, by the path of their module."""

    code: str
    exports: frozenset[str]
    imports: dict[str, list[str]]


@dataclass(frozen=True)
class JoinedScript:
    """A script, and the modules that it holds."""

    text: str
    modules: list[str]


def join_modules(entry: str, read: Callable[[str], str]) -> JoinedScript:
    """Join `entry` and the modules of its folder that it imports, in the order in which a browser would run them.

    Modules of other folders stay imported: pages may load them too, and a module must not run twice.
    """
    folder = posixpath.dirname(entry)
    modules: dict[str, Module] = {}
    order = list(_visit(entry, folder, read, modules))
    _check_names(order, modules)
    outside: dict[str, set[str]] = {}
    for path in order:
        for source, names in modules[path].imports.items():
            if source not in modules:
                outside.setdefault(source, set()).update(names)
    imports = "".join(
        f'import {{ {", ".join(sorted(names))} }} from "{posixpath.relpath(source, folder)}";\n'
        for source, names in outside.items()
    )
    codes = [modules[path].code.strip("\n") + "\n" for path in order]
    return JoinedScript("\n".join([imports, *codes] if imports else codes), order)


def _visit(path: str, folder: str, read: Callable[[str], str], modules: dict[str, Module]) -> Iterator[str]:
    """Read a module and those that it imports into `modules`, and yield their paths, the imported ones first."""
    modules[path] = _parse(path, read(path))
    for source in modules[path].imports:
        if posixpath.dirname(source) == folder and source not in modules:
            yield from _visit(source, folder, read, modules)
    yield path


def _parse(path: str, text: str) -> Module:
    imports: dict[str, list[str]] = {}
    for names, source in IMPORT.findall(text):
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), source))
        imports.setdefault(target, []).extend(name.strip() for name in names.split(",") if name.strip())
    exports = frozenset(EXPORT.findall(text))
    code = EXPORT.sub("", IMPORT.sub("", text))
    if left := LEFT.search(code):
        raise ScriptError(f"{path}: {left[0]!r} is not a form of import or export that is joined.")
    return Module(code, exports, imports)


def _check_names(order: list[str], modules: dict[str, Module]) -> None:
    """Check that each imported name is exported, and that no two modules share a name of their own."""
    owners: dict[str, str] = {}
    for path in order:
        module = modules[path]
        for source, names in module.imports.items():
            for name in names:
                if not name.isidentifier() or (source in modules and name not in modules[source].exports):
                    raise ScriptError(f"{path}: {source} does not export {name!r}.")
                if owners.setdefault(name, source) != source:
                    raise ScriptError(f"{path}: {name!r} is also a name of {owners[name]}.")
        for name in NAMED.findall(module.code):
            if owners.setdefault(name, path) != path:
                raise ScriptError(f"{path}: {name!r} is also a name of {owners[name]}.")
