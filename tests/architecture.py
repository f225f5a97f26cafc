"""The rooms of the code as its imports have them: `make architecture`.

A room is a module or a package at the top of `eus_ray`, or of `eus_ray/analysis`. Every import counts, also one inside
a function or for type checkers. Prints boxes, floors, arrows and circles, and the picture that stands in
ARCHITECTURE.md; with `--write` puts it there.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "eus_ray"
PAGE = ROOT / "ARCHITECTURE.md"
LINKS = ("analysis", "search_spaces", "cluster")
"""Links in the package to folders at the top of the repository."""

Graph = dict[str, set[str]]
"""The boxes that each box imports."""


def sources(folder: Path = PACKAGE) -> list[Path]:
    """Every Python file of the package, those behind its links too."""
    found = sorted(folder.rglob("*.py"))
    if folder == PACKAGE:  # a walk does not follow links
        found += [path for link in LINKS for path in sorted((PACKAGE / link).rglob("*.py"))]
    return [path for path in found if "__pycache__" not in path.parts]


def module_name(path: Path) -> str:
    """The dotted name of a file, such as `eus_ray.store.lock`."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def imported(path: Path, modules: Iterable[str]) -> set[str]:
    """The modules of the package that a file imports, wherever in it the import stands."""
    known = set(modules)
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its room"
            base = node.module or ""
            inside = {f"{base}.{alias.name}" for alias in node.names} & known
            rest = any(f"{base}.{alias.name}" not in known for alias in node.names)
            found |= inside | ({base} if rest else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & known


def modules_graph() -> Graph:
    """Which modules each module of the package imports."""
    files = {module_name(path): path for path in sources()}
    return {name: imported(path, files) - {name} for name, path in files.items()}


def boxes_graph(modules: Mapping[str, set[str]], prefix: str) -> Graph:
    """The same between what lies directly below `prefix`; the package's own `__init__` is no box."""
    depth = prefix.count(".") + 1

    def box(name: str) -> str | None:
        parts = name.split(".")
        return parts[depth] if name.startswith(f"{prefix}.") and len(parts) > depth else None

    graph: Graph = {}
    for name, needs in modules.items():
        if (mine := box(name)) is not None:
            graph.setdefault(mine, set()).update(other for need in needs if (other := box(need)) not in (None, mine))
    return graph


def floors(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Boxes by floor, the lowest first: each imports only from floors below it. Boxes in a circle are left out."""
    placed: list[list[str]] = []
    below: set[str] = set()
    while ready := sorted(box for box in graph if box not in below and graph[box] <= below):
        placed.append(ready)
        below |= set(ready)
    return placed


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of boxes that import one another, directly or through others."""

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for need in graph.get(waiting.pop(), set()) - seen:
                seen.add(need)
                waiting.append(need)
        return seen

    reach = {box: reached(box) for box in graph}
    groups = {tuple(sorted(other for other in reach[box] if box in reach[other])) for box in graph if box in reach[box]}
    return [list(group) for group in sorted(groups)]


def statements(folder: Path) -> int:
    """How many statements a folder's code has, docstrings not counted."""
    nodes = (node for path in sources(folder) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    found = [node for node in nodes if isinstance(node, ast.stmt)]
    prose = [
        node
        for node in found
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return len(found) - len(prose)


def counts(graph: Mapping[str, set[str]]) -> str:
    arrows = sum(map(len, graph.values()))
    return f"{len(graph)} boxes, {len(floors(graph))} floors, {arrows} arrows, {len(circles(graph))} circles"


def picture(graph: Mapping[str, set[str]]) -> str:
    """The boxes as text, the highest floor first, each with what it imports."""
    lines = []
    for number, floor in reversed(list(enumerate(floors(graph)))):
        for place, box in enumerate(floor):
            needs = ", ".join(sorted(graph[box])) or "nothing"
            lines.append(f"{number if place == 0 else '':>2}  {box:<14} imports {needs}")
    return "\n".join(lines)


def page_picture() -> str:
    """What stands between the marks in ARCHITECTURE.md."""
    modules = modules_graph()
    blocks = []
    for title, prefix in (("`eus_ray`", "eus_ray"), ("`eus_ray.analysis`", "eus_ray.analysis")):
        graph = boxes_graph(modules, prefix)
        blocks.append(f"{title}: {counts(graph)}.\n\n```text\n{picture(graph)}\n```")
    return "\n\n".join(blocks)


_MARKED = re.compile(r"(<!-- rooms: .* -->\n).*?(\n<!-- end of rooms -->)", re.DOTALL)


def page_with(text: str, drawn: str) -> str:
    """The page with another picture between its marks."""
    return _MARKED.sub(lambda marks: f"{marks[1]}{drawn}{marks[2]}", text)


def main() -> None:
    """Print the figures and the picture, or write the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the picture into ARCHITECTURE.md")
    if parser.parse_args().write:
        PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), page_picture()), encoding="utf-8")
    print(page_picture())
    for group in circles(modules_graph()):
        print("circle of modules:", ", ".join(group))
    inside = statements(PACKAGE / "analysis")
    print(f"statements without docstrings: eus_ray {statements(PACKAGE) - inside}, analysis {inside}")


if __name__ == "__main__":
    main()
