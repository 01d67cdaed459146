"""Graph cuts: a labelling of pixels is a cut through a network of pipes, and the best
one is the cheapest cut.

Boykov, Jolly, "Interactive Graph Cuts for Optimal Boundary and Region Segmentation of
Objects in N-D Images", ICCV
2001. A pixel pays for the label that it takes, and two neighbours pay for taking
      different ones:

    E(mask) = Σ cost of each pixel's label + Σ weight of each pair of neighbours that
    the mask parts

`max_flow` finds the largest flow by the shortest path that still has room, again and
again (Ford and Fulkerson 1956; shortest first: Edmonds and Karp 1972): to be read, for
some dozen nodes. `grid_cut` builds the network of an image or a volume and hands it to
scipy. Not in the paper: costs are the caller's, histograms of the seeds or anything
else. Chapter 08.
"""

from collections import deque

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow


def max_flow(capacity) -> tuple[float, np.ndarray]:
    """Largest flow from the first node to the last, and the nodes (bool) on the first
    one's side of the cheapest cut.

    capacity  (n, n), at least 0: how much fits through the pipe from the row's node to
              the column's
    """
    room = np.array(capacity, dtype=float)
    if (
        room.ndim != 2
        or room.shape[0] != room.shape[1]
        or len(room) < 2
        or not (room >= 0).all()
    ):
        raise ValueError(
            f"capacity {room.shape}, least {room.min(initial=0)}; the rule: (n, n), n "
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
        if (
            sink not in came_from
        ):  # nothing more fits: what can be reached is the first node's side
            return flow, np.isin(np.arange(len(room)), list(came_from))
        path = [sink]
        while path[-1] != 0:
            path.append(came_from[path[-1]])
        pipes = path[:0:-1], path[-2::-1]  # from, to
        pushed = room[pipes].min()
        room[pipes] -= pushed
        room[pipes[::-1]] += pushed  # what flows may be sent back
        flow += pushed


def contrast(
    image, *, weight: float = 1.0, sigma: float = 1.0, spacing=None
) -> list[np.ndarray]:
    """What it costs to part two neighbours, one array an axis: `weight` in flat parts,
    nearly 0 across a step of several `sigma`; less for neighbours that lie farther
    apart (`spacing`, in units of the first in-plane pixel).
    """
    image = np.asarray(image, dtype=float)
    spacing = spacing or (1,) * image.ndim
    return [
        weight / length * np.exp(-((np.diff(image, axis=axis) / sigma) ** 2) / 2)
        for axis, length in enumerate(spacing)
    ]


def energy(mask, costs, pairs) -> float:
    """What `mask` costs: E above."""
    mask = np.asarray(mask, dtype=bool)
    parted = (p[np.diff(mask, axis=axis)].sum() for axis, p in enumerate(pairs))
    return float(np.where(mask, costs[1], costs[0]).sum() + sum(parted))


def grid_cut(costs, pairs) -> np.ndarray:
    """The mask (bool) with the least `energy`, of all 2ⁿ, up to the rounding of
    capacities to whole numbers.

    costs   (2, H, W) or (2, D, H, W): what a pixel pays as background [0] and as object
            [1]; inf forbids the label
    pairs   one array an axis, as of `contrast`: what neighbours along it pay for
            different labels, at least 0
    """
    costs, pairs = (
        np.asarray(costs, dtype=float),
        [np.asarray(p, dtype=float) for p in pairs],
    )
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
            f"costs {costs.shape} and pairs {[p.shape for p in pairs]}; the rule: "
            "costs (2, H, W) or (2, D, H, W), "
            f"and pairs one shorter along their own axis, here {wanted}"
        )
    if (
        np.isnan(costs).any()
        or np.isinf(costs).all(0).any()
        or any((p < 0).any() for p in pairs)
    ):
        raise ValueError(
            "the rule: no cost is NaN, a pixel may have one label or the other, no "
            "pair is below 0"
        )
    node = np.arange(1, 1 + costs[0].size).reshape(
        shape
    )  # 0 is the source (object), the last the sink
    source, sink = np.zeros_like(node), np.full_like(node, node.size + 1)
    lead = costs[0] - costs[1]  # what a pixel saves as object: only that matters
    hard = 1 + 2 * sum(
        p.max(initial=0) for p in pairs
    )  # more than all pairs of a pixel can cost
    lead = np.where(np.isinf(lead), np.sign(lead) * hard, lead)
    ends = [(source, node, lead.clip(0)), (node, sink, (-lead).clip(0))]
    for axis, pair in enumerate(pairs):
        a, b = (
            node.take(range(shape[axis] - 1), axis),
            node.take(range(1, shape[axis]), axis),
        )
        ends += [(a, b, pair), (b, a, pair)]
    a, b, capacity = (np.concatenate([e[i].ravel() for e in ends]) for i in range(3))
    fine = (
        (2**31 - 1) / 2 / max(1e-12, *(e[2].sum() for e in ends[:2]), capacity.max())
    )  # fits 32 bits
    whole = np.rint(capacity * min(fine, 1e6)).astype(np.int32)
    pipes = csr_array(coo_array((whole, (a, b)), shape=(node.size + 2,) * 2))
    room = pipes - maximum_flow(pipes, 0, node.size + 1).flow
    room.eliminate_zeros()
    reached = np.zeros(node.size + 2, dtype=bool)
    reached[breadth_first_order(room, 0, return_predecessors=False)] = True
    return reached[1:-1].reshape(shape)
