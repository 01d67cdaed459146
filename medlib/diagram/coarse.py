"""What is a bar: the operations of a network put together to feature maps."""

from torch import nn

from medlib.diagram.trace import JOINED, Graph, Node, words

PART = ("norm", "act", "pad", *JOINED)  # of the operation before, with one input


def coarse(model: nn.Module, graph: Graph) -> Graph:
    """The graph with a node for each feature map: norms and activations are part of
    their convolution, and what is in a block that comes more than once is one node.
    """
    for path, kind in blocks(model, graph):
        members = inside(path, graph)
        widest = max((n for n in members if n.kernel), key=lambda n: n.kernel)
        factors = [n.factor for n in members if n.factor != 1]
        block = Node(
            "block", words(kind), path, members[-1].shape, {},
            factor=factors[0] if factors else 1.0, kernel=widest.kernel,
            dilation=widest.dilation,
        )  # fmt: skip
        graph.contract(members, block)
    graph.absorb(PART)
    return graph


def inside(path: str, graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if f"{n.path}.".startswith(f"{path}.")]


def blocks(model: nn.Module, graph: Graph) -> list[tuple[str, str]]:
    """(path, class) of the blocks: modules whose class comes more than once, of several
    convolutions with a depthwise one or a shortcut. A shortcut over dense convolutions
    of one size is left in the drawing, as V-Net's.
    """
    ones: dict[str, dict[str, list[Node]]] = {}
    for path, module in model.named_modules():
        members = inside(path, graph) if path else []
        entries = {source for n in members for source in n.inputs} - set(members)
        several = sum(bool(n.kernel) for n in members) > 1 and len(entries) == 1
        if several and type(module) not in (nn.Sequential, nn.ModuleList):
            ones.setdefault(type(module).__name__, {})[path] = members
    found = []
    for kind, paths in ones.items():
        every = [node for members in paths.values() for node in members]
        ops = {node.op for node in every}
        narrow = ops & {"pointwise", "depthwise"} or any(n.factor != 1 for n in every)
        told = "depthwise" in ops or "+" in ops and narrow
        if len(paths) > 1 and told and not ops & {"up", "cat"}:
            found += [(path, kind) for path in paths]
    return [
        (path, kind)
        for path, kind in found
        if not any(path.startswith(f"{outer}.") for outer, _ in found)
    ]
