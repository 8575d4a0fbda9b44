"""Where the floating-point scales stand inside the blocks of each GGUF tensor format.

Everything else in a block is integers, for which any byte is valid; so a random block is random bytes with these fields
set. Layouts: ggml-common.h of the ggml project.
"""

from dataclasses import dataclass

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType


@dataclass(frozen=True)
class BlockFormat:
    name: str
    scale: int | None  # byte offset of the binary16 scale d
    minimum: int | None = None  # byte offset of the binary16 minimum (m, or dmin of the K formats)
    exponent: int | None = None  # byte offset of an E8M0 scale

    @property
    def type(self):
        return GGMLQuantizationType[self.name]

    @property
    def elements(self):
        return GGML_QUANT_SIZES[self.type][0]

    @property
    def bytes(self):
        return GGML_QUANT_SIZES[self.type][1]

    def halves(self):
        return [offset for offset in (self.scale, self.minimum) if offset is not None]


FORMATS = {
    f.name: f
    for f in (
        BlockFormat("F32", None),
        BlockFormat("F16", None),
        BlockFormat("BF16", None),
        BlockFormat("Q4_0", 0),
        BlockFormat("Q4_1", 0, 2),
        BlockFormat("Q5_0", 0),
        BlockFormat("Q5_1", 0, 2),
        BlockFormat("Q8_0", 0),
        BlockFormat("Q2_K", 80, 82),
        BlockFormat("Q3_K", 108),
        BlockFormat("Q4_K", 0, 2),
        BlockFormat("Q5_K", 0, 2),
        BlockFormat("Q6_K", 208),
        BlockFormat("IQ4_NL", 0),
        BlockFormat("IQ4_XS", 0),
        BlockFormat("MXFP4", None, exponent=0),
    )
}


def put_halves(blocks, offset, values):
    """Writes binary16 values[n] at a byte offset of blocks [n, bytes] uint8."""
    blocks[:, offset : offset + 2] = np.asarray(values, dtype="<f2").reshape(-1, 1).view(np.uint8)
