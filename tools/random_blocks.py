"""Random tensor data in quantised form: bytes of any format whose values have mean 0 and a wished standard deviation.

Nothing is quantised. Blocks are drawn as random bytes with scales set so that what they decode to is spread as wished,
some thousands of them for each format; a tensor is a random choice of these, made at the speed of memory.
"""

import zlib

import numpy as np
from block_formats import FORMATS, put_halves
from gguf.quants import dequantize

POOL_BLOCKS = 4096
POOL_FLOATS = 1 << 20
CHUNK_BYTES = 32 << 20

# minimum = ratio * scale makes the mean 0: the middle of the quants. Q4_1, Q5_1 add it, the K formats take it away.
MINIMUM_RATIO = {"Q4_1": -7.5, "Q5_1": -15.5, "Q2_K": 1.5, "Q4_K": 7.5, "Q5_K": 15.5}


def make_sub_minimums_equal_sub_scales(name, blocks, rng):
    """Q2_K, Q4_K, Q5_K carry a minimum for each sub-block; with equal sub-scales one ratio serves all sub-blocks."""
    n = len(blocks)
    if name == "Q2_K":  # 16 bytes, scale in the low nibble, minimum in the high one
        blocks[:, :16] = rng.integers(4, 16, (n, 16), dtype=np.uint8) * np.uint8(17)
    elif name in ("Q4_K", "Q5_K"):  # 8 scales and 8 minimums of 6 bits in 12 bytes
        six = rng.integers(16, 64, (n, 8), dtype=np.uint8)
        low, high = six[:, :4], six[:, 4:]
        first = low | ((high >> np.uint8(4)) << np.uint8(6))
        blocks[:, 4:16] = np.concatenate([first, first, (high & np.uint8(15)) * np.uint8(17)], axis=1)


class BlockSource:
    """Draws tensors. Everything depends on the seed, and each tensor on its own name alone."""

    def __init__(self, seed):
        self.seed = seed
        self.pools = {}

    def rows(self, tensor_name, format_name, n_rows, n_columns, std):
        """[n_rows, bytes of a row] uint8. REQUIRES n_columns to be a multiple of the format's block."""
        rng = np.random.default_rng([self.seed, zlib.crc32(tensor_name.encode())])
        fmt = FORMATS[format_name]
        if n_columns % fmt.elements:
            raise SystemExit(f"error: {tensor_name}: {n_columns} columns are not whole blocks of {format_name}")
        n_blocks = n_columns // fmt.elements
        if fmt.elements > 1 and n_blocks < 3:  # too few for rows to differ by the choice alone
            return block_pool(fmt, rng, std, n_rows * n_blocks).reshape(n_rows, n_blocks * fmt.bytes)
        row_bytes = n_blocks * fmt.bytes
        out = np.empty((n_rows, row_bytes), dtype=np.uint8)
        chunk = max(1, CHUNK_BYTES // row_bytes)
        for start in range(0, n_rows, chunk):
            stop = min(n_rows, start + chunk)
            out[start:stop] = self._chunk(rng, fmt, stop - start, n_columns, std).reshape(stop - start, row_bytes)
        return out

    def _chunk(self, rng, fmt, n_rows, n_columns, std):
        pool = self._pool(fmt, std)
        if fmt.elements == 1:  # rows are two slices of one long row each: one alone would soon come again
            if n_columns >= len(pool):
                pool = np.resize(pool, (2 * n_columns, pool.shape[1]))
            middle = n_columns // 2
            left, right = rng.integers(0, len(pool) - n_columns, (2, n_rows))
            return np.stack([
                np.concatenate([pool[i : i + middle], pool[j + middle : j + n_columns]]) for i, j in zip(left, right)
            ])  # fmt: skip
        return pool[rng.integers(0, len(pool), n_rows * (n_columns // fmt.elements))]

    def _pool(self, fmt, std):
        key = (fmt.name, std)
        if key not in self.pools:
            rng = np.random.default_rng([self.seed, zlib.crc32(fmt.name.encode()), 7])
            is_float = fmt.elements == 1
            self.pools[key] = float_pool(fmt, rng, std) if is_float else block_pool(fmt, rng, std, POOL_BLOCKS)
        return self.pools[key]


def float_pool(fmt, rng, std):
    values = (rng.standard_normal(POOL_FLOATS) * std).astype(np.float32)
    if fmt.name == "F16":
        values = values.astype("<f2")
    elif fmt.name == "BF16":
        values = (values.view(np.uint32) >> np.uint32(16)).astype("<u2")
    return values.view(np.uint8).reshape(POOL_FLOATS, fmt.bytes)


def block_pool(fmt, rng, std, n):
    """n blocks with scales that differ by a factor of 4 and have either sign."""
    blocks = rng.integers(0, 256, (n, fmt.bytes), dtype=np.uint8)
    make_sub_minimums_equal_sub_scales(fmt.name, blocks, rng)
    if fmt.exponent is not None:  # a power of two below the wished one and its double, mixed to meet the variance
        blocks[:, fmt.exponent] = 127
        variance = (std / spread(fmt, blocks)) ** 2
        below = int(np.floor(np.log2(variance) / 2))
        doubled = rng.random(n) < (variance / 4.0**below - 1) / 3
        blocks[:, fmt.exponent] = 127 + below + doubled
        return blocks
    sign = rng.choice([-1.0, 1.0], n)
    relative = sign * np.exp2(rng.uniform(-1, 1, n))
    ratio = MINIMUM_RATIO.get(fmt.name, 0.0)
    set_scales(fmt, blocks, relative * 0.01, ratio)  # 0.01: a first guess, a normal binary16 in every format
    set_scales(fmt, blocks, relative * 0.01 * (std / spread(fmt, blocks)), ratio)
    return blocks


def set_scales(fmt, blocks, scale, ratio):
    scale = scale.astype("<f2")
    put_halves(blocks, fmt.scale, scale)
    if fmt.minimum is not None:
        put_halves(blocks, fmt.minimum, (scale.astype(np.float32) * ratio).astype("<f2"))


def spread(fmt, blocks):
    return float(np.std(dequantize(blocks, fmt.type), dtype=np.float64))
