"""A short soak: the tool that scripts/soak runs with 10,000 requests, and that it sees a leak."""

import dataclasses
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import soak  # noqa: E402


def test_four_hundred_requests_leave_nothing_behind(serve_tiny):
    samples, kinds = soak.soak(serve_tiny("--slots", 4, "--threads", 1), 400, 100, seed=7)
    assert min(kinds[kind] for kind in ("whole", "cancel", "leave", "wrong", "tokenize")) > 0
    found = soak.problems(samples, warm_up=200)
    assert not found, (found, samples)


def test_what_grows_is_found():
    flat = [soak.Sample(n, 50 << 20, 20, 9, 1000) for n in (500, 1000, 1500)]
    assert soak.problems(flat, 500) == []
    for change in ({"fds": 21}, {"threads": 10}, {"device_bytes": 999}, {"rss_bytes": 55 << 20}):
        assert len(soak.problems([*flat, dataclasses.replace(flat[0], requests=2000, **change)], 500)) == 1
    growing_early = [dataclasses.replace(flat[0], requests=100, fds=3), *flat]
    assert soak.problems(growing_early, 500) == []
