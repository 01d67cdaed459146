"""Graph cuts: a labelling of pixels is a cut through a graph of nodes and edges, and
the best labelling is the cheapest cut.

Boykov, Jolly, "Interactive Graph Cuts for Optimal Boundary and Region Segmentation of
Objects in N-D Images", ICCV 2001. The energy of a mask has a data term, what each pixel
costs with its label (unary), and a smoothness term, what two neighbours cost whose
labels differ (pairwise):

    E(mask) = Σ cost of each pixel's label + Σ weight of each pair of neighbours that
    the mask parts

`max_flow` finds the largest flow by the shortest path that still has room, again and
again (Ford and Fulkerson 1956; shortest first: Edmonds and Karp 1972): to be read, for
some dozen nodes. `grid_cut` builds the graph of an image or a volume and hands it to
scipy. Not in the paper: costs are the caller's, histograms of the seeds or anything
else. Chapter 08.
"""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow


def max_flow(capacity: ArrayLike) -> tuple[float, np.ndarray]:
    """Largest flow from the first node to the last, and the nodes (bool) on the first
    one's side of the cheapest cut.

    capacity  (n, n), at least 0: how much fits through the edge from the row's node to
              the column's

    Raises ValueError where capacity is not square, has one node or a negative entry.
    """
    room = np.array(capacity, dtype=float)
    if (
        room.ndim != 2
        or room.shape[0] != room.shape[1]
        or len(room) < 2
        or not (room >= 0).all()
    ):
        raise ValueError(
            f"capacity {room.shape}, least {room.min(initial=0)}; expected (n, n), n "
            "≥ 2, ≥ 0"
        )
    sink, flow = len(room) - 1, 0.0
    while True:
        came_from, queue = {0: 0}, deque([0])
        while queue and sink not in came_from:
            node = queue.popleft()
            for following in np.flatnonzero(room[node]).tolist():
                if following not in came_from:
                    came_from[following] = node
                    queue.append(following)
        if sink not in came_from:
            # Nothing more fits: what can be reached is the first node's side.
            return flow, np.isin(np.arange(len(room)), list(came_from))
        path = [sink]
        while path[-1] != 0:
            path.append(came_from[path[-1]])
        edges = path[:0:-1], path[-2::-1]  # from, to
        pushed = room[edges].min()
        room[edges] -= pushed
        room[edges[::-1]] += pushed  # what flows may be sent back
        flow += pushed


def contrast(
    image: ArrayLike,
    *,
    weight: float = 1.0,
    sigma: float = 1.0,
    spacing: Sequence[float] | None = None,
) -> list[np.ndarray]:
    """The smoothness term of an image (H, W) or (D, H, W): what it costs to part two
    neighbours, one array an axis. `weight` in flat parts, nearly 0 across a step of
    several `sigma`; less for neighbours that lie farther apart (`spacing`, in units of
    the first in-plane pixel).
    """
    grey = np.asarray(image, dtype=float)
    spacing = spacing or (1,) * grey.ndim
    return [
        weight / length * np.exp(-((np.diff(grey, axis=axis) / sigma) ** 2) / 2)
        for axis, length in enumerate(spacing)
    ]


def grid_cut(costs: np.ndarray, pairs: Sequence[np.ndarray]) -> np.ndarray:
    """The mask (bool) with the least energy E, of all 2ⁿ, up to the rounding of
    capacities to whole numbers.

    costs   (2, H, W) or (2, D, H, W), the data term: of a pixel as background [0] and
            as object [1]; inf forbids the label
    pairs   one array an axis, as of `contrast`, the smoothness term: of neighbours
            along that axis with different labels, at least 0

    Raises ValueError on other shapes, NaN, a pixel without a label, a pair below 0.
    """
    costs = np.asarray(costs, dtype=float)
    pairs = [np.asarray(p, dtype=float) for p in pairs]
    shape = costs.shape[1:]
    wanted = [
        tuple(n - (i == axis) for i, n in enumerate(shape))
        for axis in range(len(shape))
    ]
    if (
        costs.ndim not in (3, 4)
        or len(costs) != 2
        or [p.shape for p in pairs] != wanted
    ):
        raise ValueError(
            f"costs {costs.shape} and pairs {[p.shape for p in pairs]}; expected "
            "costs (2, H, W) or (2, D, H, W), "
            f"and pairs one shorter along their own axis, here {wanted}"
        )
    if (
        np.isnan(costs).any()
        or np.isinf(costs).all(0).any()
        or any((p < 0).any() for p in pairs)
    ):
        raise ValueError(
            "expected no cost that is NaN, for each pixel one label or the other, no "
            "pair below 0"
        )
    # Node 0 is the source (object), the last one the sink (background).
    node = np.arange(1, 1 + costs[0].size).reshape(shape)
    source, sink = np.zeros_like(node), np.full_like(node, node.size + 1)
    lead = costs[0] - costs[1]  # what a pixel saves as object: only that matters
    # More than all pairs of a pixel can cost.
    hard = 1 + 2 * sum(p.max(initial=0) for p in pairs)
    lead = np.where(np.isinf(lead), np.sign(lead) * hard, lead)
    ends = [(source, node, lead.clip(0)), (node, sink, (-lead).clip(0))]
    for axis, pair in enumerate(pairs):
        a = node.take(range(shape[axis] - 1), axis)
        b = node.take(range(1, shape[axis]), axis)
        ends += [(a, b, pair), (b, a, pair)]
    a, b, capacity = (np.concatenate([e[i].ravel() for e in ends]) for i in range(3))
    # scipy wants whole numbers, and neither a capacity nor the flow may pass 32 bits.
    largest = max(1e-12, *(e[2].sum() for e in ends[:2]), capacity.max())
    fine = (2**31 - 1) / 2 / largest
    whole = np.rint(capacity * min(fine, 1e6)).astype(np.int32)
    edges = csr_array(coo_array((whole, (a, b)), shape=(node.size + 2,) * 2))
    room = edges - maximum_flow(edges, 0, node.size + 1).flow
    room.eliminate_zeros()
    reached = np.zeros(node.size + 2, dtype=bool)
    reached[breadth_first_order(room, 0, return_predecessors=False)] = True
    return reached[1:-1].reshape(shape)
