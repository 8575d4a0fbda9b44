"""What failing host calls do to the real worker: a share of the indices that scripts/faults goes through.

The sanitizers bring an operator new of their own, so only builds without them have the library that is preloaded.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import host_faults  # noqa: E402


@pytest.mark.plain
@pytest.mark.parametrize(("part", "stride", "least"), [("load", 200, 100), ("serve", 100, 15), ("request", 9, 60)])
def test_no_failing_host_call_ends_in_more_than_one_error(binary, tiny, tmp_path, part, stride, least):
    preload = binary.parent.parent / "lib" / "libfault_preload.so"
    assert preload.is_file(), f"{preload} is missing: build the release preset"
    n_indices, failures = host_faults.SWEEPS[part](host_faults.Setup(binary, preload, tiny, tmp_path), stride)
    print(f"{part}: {n_indices} indices × 2 modes, {len(failures)} failures")
    assert n_indices >= least and failures == []
