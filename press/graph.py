"""What the modules of a package define, which names their code uses, and what each name
leads to: read from the text alone, without importing anything.

A name is a dotted path, such as "medlib.cost.parameters". `resolve` follows it through
imports, aliases, submodules and lazy packages (a plain dict `_HOME = {name: module}`)
to the definition that it means, such as ("medlib.cost", "parameters").
"""

import ast
import copy
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from press.text import canonical, digest

Key = tuple[str, str]  # (module, name of a definition at its top)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
EFFECTS = (
    ast.Expr, ast.If, ast.For, ast.While, ast.With, ast.Try, ast.Assert, ast.Delete,
    ast.AugAssign,
)  # fmt: skip


def imported(node: ast.AST, package: str) -> dict[str, str]:
    """{the name that an import statement binds: the path it stands for}."""
    if isinstance(node, ast.Import):
        found = {}
        for alias in node.names:
            top = alias.name.split(".")[0]  # `import a.b` binds a
            found[alias.asname or top] = alias.name if alias.asname else top
        return found
    if isinstance(node, ast.ImportFrom):
        home = node.module or ""
        if node.level:
            parts = package.split(".")
            parent = ".".join(parts[: len(parts) - node.level + 1])
            home = f"{parent}.{home}".rstrip(".")
        return {a.asname or a.name: f"{home}.{a.name}" for a in node.names}
    return {}


def is_docstring(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


class _Bare(ast.NodeTransformer):
    """Drops what does not run: docstrings, and annotations of functions."""

    def generic_visit(self, node):
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list):
            node.body = [s for s in node.body if not is_docstring(s)] or [ast.Pass()]
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node

    def visit_FunctionDef(self, node):
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef


def code_of(statements: list[ast.stmt]) -> str:
    """A hash of what these statements do: no comments, docstrings, type hints."""
    bare = [_Bare().visit(statement) for statement in copy.deepcopy(statements)]
    return digest(canonical(bare))


class _Names(ast.NodeVisitor):
    """The dotted paths that code uses. What a function binds itself is its own, except
    what it imports, which is a path too; every other name belongs to `module`.
    """

    def __init__(self, module: str, package: str):
        self.module, self.package = module, package
        self.found: set[str] = set()
        self.imports: set[str] = set()
        self.scopes: list[dict[str, str | None]] = []

    def path(self, name: str) -> str | None:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return f"{self.module}.{name}"

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load) and (path := self.path(node.id)):
            self.found.add(path)

    def visit_Attribute(self, node):
        names, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            names.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            self.visit(inner)
        elif path := self.path(inner.id):
            self.found.add(".".join([path, *reversed(names)]))

    def visit_Import(self, node):
        self.imports.update(imported(node, self.package).values())

    visit_ImportFrom = visit_Import

    def visit_FunctionDef(self, node):
        outside = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
        for part in [*getattr(node, "decorator_list", []), *outside]:
            self.visit(part)
        body = node.body if isinstance(node.body, list) else [node.body]
        arguments = node.args
        scope: dict[str, str | None] = {
            a.arg: None
            for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            + [a for a in (arguments.vararg, arguments.kwarg) if a]
        }
        self.scopes.append(scope | bound(body, self.package))
        for part in body:
            self.visit(part)
        self.scopes.pop()

    visit_AsyncFunctionDef = visit_Lambda = visit_FunctionDef

    def visit_ListComp(self, node):
        targets = [generator.target for generator in node.generators]
        self.scopes.append(bound(targets, self.package))
        self.generic_visit(node)
        self.scopes.pop()

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp


def bound(nodes: list, package: str) -> dict[str, str | None]:
    """{name: None, or the path that it was imported from} of what these bind in their
    own scope.
    """
    found: dict[str, str | None] = {}
    waiting, everywhere = list(nodes), set()
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Global):
            everywhere.update(node.names)
        found |= imported(node, package)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found[node.id] = None
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            if node.name:
                found[node.name] = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found[node.name] = None
            continue
        if not isinstance(node, (*COMPREHENSIONS, ast.Lambda)):
            waiting.extend(ast.iter_child_nodes(node))
    return {name: path for name, path in found.items() if name not in everywhere}


class Module:
    """One file: its definitions, its imports, and the statements that do something when
    it is imported.
    """

    def __init__(self, name: str, code: str, *, is_package: bool = False):
        self.name = name
        self.package = name if is_package else name.rpartition(".")[0]
        self.tree = ast.parse(code)
        self.imports: dict[str, str] = {}
        self.definitions: dict[str, list[ast.stmt]] = {}
        self.effects: list[ast.stmt] = []
        for node in self.tree.body:
            binds = bound([node], self.package)
            for own, path in binds.items():
                if path is None:
                    self.definitions.setdefault(own, []).append(node)
                else:
                    self.imports[own] = path
            stores = isinstance(node, ast.Assign) and not binds  # x.y = …, x[y] = …
            if stores or (isinstance(node, EFFECTS) and not is_docstring(node)):
                self.effects.append(node)

    @cached_property
    def home(self) -> dict[str, str]:
        """{name: module} of a lazy package."""
        for node in self.definitions.get("_HOME", []):
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
                return ast.literal_eval(node.value)
        return {}

    def names(self, nodes: list) -> tuple[set[str], set[str]]:
        """(the paths that these use, the paths that they import)."""
        visitor = _Names(self.name, self.package)
        for node in nodes:
            visitor.visit(node)
        return visitor.found, visitor.imports

    @cached_property
    def at_import(self) -> set[str]:
        """The paths that importing this module imports."""
        found = set()
        for node in self.tree.body:
            if not isinstance(node, ast.FunctionDef | ast.ClassDef):
                found |= self.names([node])[1]
        return found


class Graph:
    """All modules of some packages below `root`."""

    def __init__(self, root: Path, *packages: str):
        self.modules: dict[str, Module] = {}
        for path in sorted(p for name in packages for p in (root / name).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            code = path.read_text(encoding="utf-8")
            inside = path.name == "__init__.py"
            self.modules[name] = Module(name, code, is_package=inside)

        self._hashes: dict[Key, str] = {}

    def add(self, module: Module) -> None:
        self.modules[module.name] = module

    def hash(self, module: str, name: str) -> str:
        """Of one definition, without its comments, docstrings and type hints."""
        key = (module, name)
        if key not in self._hashes:
            self._hashes[key] = code_of(self.modules[module].definitions[name])
        return self._hashes[key]

    def resolve(self, path: str) -> Iterator[Key]:
        """The definitions that a path means: one, or none where it leads out of these
        packages; all of a module's where the module itself is meant.
        """
        module, rest = self.split(path)
        if module is None:
            return
        if not rest:
            yield from ((module.name, name) for name in module.definitions)
            for name in module.home:
                yield from self.resolve(f"{module.name}.{name}")
            return
        first, _, more = rest.partition(".")
        if first in module.definitions:
            yield module.name, first
        elif first in module.imports:
            target = module.imports[first] + (f".{more}" if more else "")
            if target != path:
                yield from self.resolve(target)
        elif first in module.home:
            yield from self.resolve(f"{self.at_home(module, first)}.{rest}")

    def at_home(self, package: Module, name: str) -> str:
        """The module where a lazy package finds a name."""
        relative = f"{package.name}.{package.home[name]}"
        return relative if relative in self.modules else package.home[name]

    def split(self, path: str) -> tuple[Module | None, str]:
        """The module that a path begins with, the longest, and what is left."""
        parts = path.split(".")
        for n in range(len(parts), 0, -1):
            if module := self.modules.get(".".join(parts[:n])):
                return module, ".".join(parts[n:])
        return None, ""

    def module_of(self, path: str) -> str | None:
        """The module that a path leads into when it is imported."""
        keys = {module for module, _ in self.resolve(path)}
        module, rest = self.split(path)
        if module is None or not rest:
            return module.name if module else None
        return keys.pop() if len(keys) == 1 else module.name

    def closure(self, module: Module) -> tuple[set[Key], set[str]]:
        """(every definition that a module's code reaches, every module that runs on the
        way because it is imported).
        """
        reached: set[Key] = set()
        loaded: set[str] = set()
        used, ran = module.names(module.tree.body)
        paths, imports = list(used), list(ran)
        while paths or imports:
            if imports:
                for name in self.running(imports.pop()) - loaded:
                    loaded.add(name)
                    paths += self.modules[name].names(self.modules[name].effects)[0]
                    imports += self.modules[name].at_import
                continue
            for key in set(self.resolve(paths.pop())) - reached:
                reached.add(key)
                home = self.modules[key[0]]
                used, ran = home.names(home.definitions[key[1]])
                paths += used
                imports += [home.name, *ran]
        return reached, loaded

    def running(self, path: str) -> set[str]:
        """The modules that run where this path is imported: its own, and the packages
        around it.
        """
        parts = (self.module_of(path) or "").split(".")
        found = {".".join(parts[:n]) for n in range(1, len(parts) + 1)}
        return found & self.modules.keys()


def arrows(graph: Graph) -> dict[str, set[str]]:
    """{module: the modules of the graph that it imports}, imports inside functions
    included. A name from a lazy package counts as its module, and a module of such a
    package as nothing of the package around it.
    """
    return {name: imports(graph, module) for name, module in graph.modules.items()}


def imports(graph: Graph, module: Module) -> set[str]:
    """The modules of the graph that a module imports, its own functions included."""
    paths: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            paths.update(alias.name for alias in node.names)
        else:
            paths.update(imported(node, module.package).values())
    targets = {graph.module_of(path) for path in paths}
    return {target for target in targets if target} - {module.name}


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports, the first again at the end; [] where there
    is none.
    """
    done: set[str] = set()

    def search(name: str, trail: list[str]) -> list[str]:
        if name in trail:
            return [*trail[trail.index(name) :], name]
        if name in done:
            return []
        for other in sorted(arrows.get(name, ())):
            if found := search(other, [*trail, name]):
                return found
        done.add(name)
        return []

    return next((found for name in arrows if (found := search(name, []))), [])
