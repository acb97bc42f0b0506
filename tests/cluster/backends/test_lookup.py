"""The smallest sums of looked-up entries, in the ranges asked for, are those of adding them up one by one."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.cluster.backends import lookup


@given(
    n=st.integers(1, 3000),
    q=st.integers(1, 4),
    m=st.integers(1, 5),
    k=st.integers(1, 20),
    p=st.integers(1, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_the_smallest_sums_are_found_in_order(n, q, m, k, p, seed):
    draw = torch.Generator().manual_seed(seed)
    tables = torch.randn(q, m, 256, generator=draw, dtype=torch.float64)
    codes = torch.randint(256, (m, n), generator=draw, dtype=torch.uint8)
    more, apart = torch.randn(n, generator=draw).double(), torch.randn(q, p, generator=draw).double()
    edges = torch.randint(n + 1, (q, 2 * p), generator=draw).sort(dim=1).values
    starts, stops = edges[:, ::2].contiguous(), edges[:, 1::2].contiguous()
    sums, places = lookup.search(tables, codes, more, starts, stops, apart, k)
    for i in range(q):
        looked_at = torch.cat([torch.arange(a, b) for a, b in zip(starts[i], stops[i], strict=True)])
        beyond = torch.cat([apart[i, j].expand(int(stops[i, j] - starts[i, j])) for j in range(p)])
        all_sums = tables[i][torch.arange(m)[:, None], codes.long()].sum(dim=0)[looked_at] + more[looked_at] + beyond
        wanted, order = all_sums.sort(stable=True)
        count = min(k, len(wanted))
        torch.testing.assert_close(sums[i, :count], wanted[:count])
        assert torch.equal(places[i, :count], looked_at[order[:count]])
        assert (places[i, count:] == -1).all()
        assert sums[i, count:].isinf().all()
