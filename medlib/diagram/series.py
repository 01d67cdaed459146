"""A graph as series of operations and parallel paths, which can be laid out so that no
line crosses another.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from medlib.diagram.trace import Graph, Node


@dataclass
class Parallel:
    """Paths from one node to another, side by side, the longest first; [] is the
    identity.
    """

    paths: list[list]


def series(graph: Graph) -> list:
    """The graph as Nodes and Parallels one after the other; behind a Parallel stands
    the node in which its paths meet.

    ValueError where paths are joined crosswise.
    """
    after = graph.consumers()
    order = {node: i for i, node in enumerate(graph.nodes)}
    behind: dict[Node, set[Node]] = {}  # the nodes that every way out passes
    for node in reversed(graph.nodes):
        ways = [behind[n] for n in after[node]]
        behind[node] = {node} | (set.intersection(*ways) if ways else set())

    def reach(node: Node, stop: Node | None, seen: set[Node]) -> set[Node]:
        if node is not stop and node not in seen:
            seen.add(node)
            for n in after[node]:
                reach(n, stop, seen)
        return seen

    def groups(starts: list[Node], stop: Node | None) -> list[list[Node]]:
        found: list[tuple[list[Node], set[Node]]] = []
        for start in starts:
            nodes, members = reach(start, stop, set()), [start]
            for other in [g for g in found if g[1] & nodes]:
                found.remove(other)
                members, nodes = other[0] + members, nodes | other[1]
            found.append((members, nodes))
        return [members for members, _ in found]

    def parse(starts: list[Node], stop: Node | None) -> list:
        items: list = []
        while starts and starts != [stop]:
            inner = [n for n in starts if n is not stop]
            if len(starts) == 1:
                items.append(inner[0])
                starts = list(dict.fromkeys(after[inner[0]]))
                continue
            common = set.intersection(*(behind[n] for n in starts))
            meet = min(common, key=order.__getitem__)
            direct = [n for n in starts if n is not meet]
            parts = groups(direct, meet)
            if parts == [starts]:
                raise ValueError(
                    "paths that are joined crosswise, at "
                    f"{meet.path or meet.label!r}; expected side by side"
                )
            paths = sorted((parse(p, meet) for p in parts), key=weight, reverse=True)
            items.append(Parallel(paths + [[]] * (meet in starts)))
            starts = [meet]
        return items

    return parse([graph.nodes[0]], None)


def weight(items: list) -> int:
    """How many nodes there are in a series."""
    return sum(
        sum(map(weight, item.paths)) if isinstance(item, Parallel) else 1
        for item in items
    )


def nodes(items: list) -> Iterator[Node]:
    """All nodes of a series, those of its parallel paths too."""
    for item in items:
        if isinstance(item, Node):
            yield item
        else:
            for path in item.paths:
                yield from nodes(path)
