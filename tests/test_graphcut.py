"""Maximum flow and minimum cut, beside scipy and beside all labellings there are."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from medlib import graphcut


def edges(seed: int, nodes: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed)
    capacity = rng.integers(1, 20, (nodes, nodes)) * (rng.random((nodes, nodes)) < 0.4)
    np.fill_diagonal(capacity, 0)
    return capacity.astype(np.int32)


def problem(seed: int, shape: tuple[int, ...], weight: float = 0.3):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=shape)
    return rng.random((2, *shape)), graphcut.contrast(image, weight=weight)


def energy(mask, costs, pairs) -> float:
    """Data term and smoothness term, as the paper writes them."""
    parted = (p[np.diff(mask, axis=axis)].sum() for axis, p in enumerate(pairs))
    return float(np.where(mask, costs[1], costs[0]).sum() + sum(parted))


def cheapest(costs, pairs) -> float:
    n = costs[0].size
    every = (
        np.reshape(bits, costs.shape[1:])
        for bits in itertools.product((False, True), repeat=n)
    )
    return min(energy(mask, costs, pairs) for mask in every)


@pytest.mark.parametrize("seed", range(8))
def test_flow_is_scipys(seed):
    flow, _ = graphcut.max_flow(edges(seed))
    assert flow == maximum_flow(csr_array(edges(seed)), 0, 11).flow_value


@pytest.mark.parametrize("seed", range(8))
def test_the_cut_is_as_large_as_the_flow(seed):
    flow, ours = graphcut.max_flow(edges(seed))
    assert ours[0] and not ours[-1]
    assert edges(seed)[np.ix_(ours, ~ours)].sum() == flow


def test_flow_by_hand():
    capacity = np.zeros((4, 4))
    capacity[0, 1], capacity[0, 2], capacity[1, 2], capacity[1, 3], capacity[2, 3] = (
        3,
        2,
        1,
        2,
        3,
    )
    flow, ours = graphcut.max_flow(capacity)
    assert flow == 5 and ours.tolist() == [True, False, False, False]


def test_nothing_flows_where_no_edge_leads():
    flow, ours = graphcut.max_flow(np.zeros((3, 3)))
    assert flow == 0 and ours.tolist() == [True, False, False]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 3)])
def test_no_labelling_costs_less(seed, shape):
    costs, pairs = problem(seed, shape)
    found = energy(graphcut.grid_cut(costs, pairs), costs, pairs)
    assert found == pytest.approx(cheapest(costs, pairs), abs=1e-4)


def test_without_pairs_each_pixel_takes_its_cheaper_label():
    costs, pairs = problem(0, (5, 7), weight=0.0)
    assert (graphcut.grid_cut(costs, pairs) == (costs[1] < costs[0])).all()


def test_seeds_are_obeyed():
    costs, pairs = problem(1, (6, 6), weight=5.0)
    costs[0, 2, 2] = costs[1, 4, 4] = np.inf
    mask = graphcut.grid_cut(costs, pairs)
    assert mask[2, 2] and not mask[4, 4]


def test_far_slices_weigh_less():
    along, rows, _ = graphcut.contrast(np.zeros((2, 3, 3)), spacing=(4, 1, 1))
    assert (along == 0.25).all() and (rows == 1).all()


def test_errors_name_the_shapes():
    with pytest.raises(ValueError, match=r"costs \(2, 3, 3\) and pairs \[\(3, 3\)\]"):
        graphcut.grid_cut(np.ones((2, 3, 3)), [np.ones((3, 3))])
    with pytest.raises(ValueError, match="one label or the other"):
        graphcut.grid_cut(
            np.full((2, 2, 2), np.inf), [np.ones((1, 2)), np.ones((2, 1))]
        )
    with pytest.raises(ValueError, match=r"capacity \(2, 3\)"):
        graphcut.max_flow(np.ones((2, 3)))
