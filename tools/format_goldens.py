#!/usr/bin/env python3
"""Writes tests/golden/formats/NAME.bin: seeded valid and odd blocks of each tensor format and what they decode to.

The expected values come from the `gguf` package (gguf.quants.dequantize), which is independent of the C++ codecs.
File, little-endian: the bytes "ORCQ"; u32 type (ggml number); u32 n_blocks; the blocks; n_blocks * block_elements f32.

  format_goldens.py                 writes all of them
  format_goldens.py --check         compares with what is there, exit 1 if anything differs
"""

import argparse
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
from block_formats import FORMATS, put_halves
from gguf.quants import dequantize

SEED = 20240607
MAGIC = b"ORCQ"
DEFAULT_OUT = Path(__file__).resolve().parent.parent / "tests" / "golden" / "formats"

# zero, smallest and largest subnormal, smallest normal, 1, an inexact third, largest; then the same negative
ODD_HALVES = np.array([0x0000, 0x0001, 0x03FF, 0x0400, 0x3C00, 0x3555, 0x7BFF], dtype=np.uint16)
ODD_HALVES = np.concatenate([ODD_HALVES, ODD_HALVES | 0x8000])
# below 2 the value is a binary32 subnormal; 250 is the largest whose largest product (12) is finite
ODD_EXPONENTS = np.array([0, 1, 2, 3, 126, 127, 128, 249, 250], dtype=np.uint8)
ODD_PAYLOADS = (0x00, 0xFF, 0x80, 0x7F, 0x0F, 0xF0)


def random_halves(rng, n):
    """Finite binary16 of any magnitude and sign, as bits."""
    bits = rng.integers(0, 0x7C00, n, dtype=np.uint16)
    return bits | (rng.integers(0, 2, n, dtype=np.uint16) << np.uint16(15))


def quantised_blocks(fmt, rng):
    """24 super-blocks of 256 or 64 blocks of 32, uint8 [n, bytes]: odd scales first, then odd payloads, the rest random."""
    n = 24 if fmt.elements == 256 else 64
    blocks = rng.integers(0, 256, (n, fmt.bytes), dtype=np.uint8)
    for row, value in enumerate(ODD_PAYLOADS):
        blocks[n - 1 - row] = value
    if fmt.exponent is not None:
        blocks[:, fmt.exponent] = rng.integers(100, 150, n)
        blocks[: len(ODD_EXPONENTS), fmt.exponent] = ODD_EXPONENTS
    for field, offset in enumerate(fmt.halves()):
        halves = random_halves(rng, n)
        # The second field runs through the odd values shifted, so that equal ones and unlike ones meet.
        halves[: len(ODD_HALVES)] = np.roll(ODD_HALVES, 5 * field)
        put_halves(blocks, offset, halves.view(np.float16))
    return blocks


def float_blocks(fmt, rng):
    """2,048 finite elements, odd ones first: one element is one block."""
    n = 2048
    if fmt.name == "F16":
        bits = random_halves(rng, n)
        bits[: len(ODD_HALVES)] = ODD_HALVES
    else:
        bits = rng.integers(0, 0x7F800000, n, dtype=np.uint32) | (rng.integers(0, 2, n, dtype=np.uint32) << np.uint32(31))
        odd = np.array([0, 1, 0x7FFFFF, 0x800000, 0x10000, 0x7F0000, 0x3F800000, 0x3EAAAAAB, 0x7F7FFFFF], dtype=np.uint32)
        bits[: 2 * len(odd)] = np.concatenate([odd, odd | np.uint32(0x80000000)])
        if fmt.name == "BF16":
            bits = (bits >> np.uint32(16)).astype(np.uint16)
    return bits.reshape(n, 1).view(np.uint8)


def golden(name):
    """The bytes of one golden file."""
    fmt = FORMATS[name]
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    blocks = float_blocks(fmt, rng) if fmt.elements == 1 else quantised_blocks(fmt, rng)
    source = blocks.view(np.float32) if name == "F32" else blocks.view(np.float16) if name == "F16" else blocks
    values = np.ascontiguousarray(dequantize(source, fmt.type), dtype="<f4")
    if values.size != len(blocks) * fmt.elements or not np.isfinite(values).all():
        raise SystemExit(f"error: {name} decodes to {values.size} values, or to some that are not finite")
    return MAGIC + struct.pack("<II", fmt.type, len(blocks)) + blocks.tobytes() + values.tobytes()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder (default tests/golden/formats)")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"default all: {' '.join(FORMATS)}")
    args = parser.parse_args(argv)
    unknown = set(args.formats) - set(FORMATS)
    if unknown:
        parser.error(f"unknown format {' '.join(sorted(unknown))}")
    differing = []
    for name in args.formats or FORMATS:
        path, content = args.out / f"{name}.bin", golden(name)
        if not args.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        elif not path.exists() or path.read_bytes() != content:
            differing.append(name)
    if differing:
        sys.exit(f"error: goldens differ: {' '.join(differing)}")


if __name__ == "__main__":
    main()
