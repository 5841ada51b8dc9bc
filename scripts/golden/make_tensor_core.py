#!/usr/bin/env python3
"""Writes tests/golden/tensor_core.txt: groups of products and their sums by docs/ARITHMETIC.md, 16.2.

Plain rational arithmetic, nothing but the standard library. Each line is a core, the accumulator
(binary32, hexadecimal), the factors a and b (bf16, four digits each), and the sum (binary32).
"""

import pathlib
import random
from fractions import Fraction

CORES = {"hopper": (25, 16), "ampere": (24, 8)}
NAN = 0x7FFFFFFF


def decode(bits, width):
    """Kind, exponent and exact value of a number of `width` fraction bits and 8 exponent bits."""
    sign = -1 if bits >> (8 + width) else 1
    field, fraction = bits >> width & 255, bits & ((1 << width) - 1)
    if field == 255:
        return ("nan" if fraction else "inf"), None, sign
    exponent = field - 127 if field else -126
    size = Fraction(fraction, 1 << width) + (1 if field else 0)
    return "number", exponent, sign * size * Fraction(2) ** exponent


def cut(x, step):
    """`x` cut toward zero to a multiple of `step`."""
    whole = abs(x) // step * step
    return whole if x >= 0 else -whole


def encode(x):
    """`x` cut toward zero to binary32, infinite from 2^128 on."""
    if x == 0:
        return 0
    sign, x = (1 << 31 if x < 0 else 0), abs(x)
    if x >= Fraction(2) ** 128:
        return sign | 0x7F800000
    exponent = -126
    while x >= Fraction(2) ** (exponent + 1):
        exponent += 1
    digits = int(x / Fraction(2) ** (exponent - 23))
    if digits < 1 << 23:
        return sign | digits
    return sign | (exponent + 127) << 23 | digits - (1 << 23)


def tensor_sum(core, c, a, b):
    bits, _ = CORES[core]
    infinite = set()
    kind, exponent, value = decode(c, 23)
    if kind == "nan":
        return NAN
    if kind == "inf":
        infinite.add(value)
    terms = [(exponent, value)]
    for x, y in zip(a, b):
        (kx, ex, vx), (ky, ey, vy) = decode(x, 7), decode(y, 7)
        if "nan" in (kx, ky):
            return NAN
        if "inf" in (kx, ky):
            if 0 in (vx, vy):
                return NAN
            infinite.add(1 if vx * vy > 0 else -1)
        else:
            terms.append((ex + ey, vx * vy))
    if infinite:
        return NAN if len(infinite) == 2 else 0x7F800000 if 1 in infinite else 0xFF800000
    step = Fraction(2) ** (max(e for e, _ in terms) - bits)
    return encode(sum(cut(v, step) for _, v in terms))


def bf16(rng, low, high):
    """A random number whose exponent field lies between `low` and `high`."""
    return rng.getrandbits(1) << 15 | rng.randint(low, high) << 7 | rng.getrandbits(7)


def binary32(rng, low, high):
    return rng.getrandbits(1) << 31 | rng.randint(low, high) << 23 | rng.getrandbits(23)


def groups(rng, size):
    """Accumulators and factors, each kind for a reason."""
    ordinary = lambda: ([bf16(rng, 118, 130) for _ in range(size)], [bf16(rng, 115, 133) for _ in range(size)])
    place = lambda: rng.randrange(size)
    for _ in range(16):  # as in a model
        yield (binary32(rng, 120, 135), *ordinary())
    for width in (4, 8, 16, 32, 64, 126):  # ever wider exponents
        for _ in range(4):
            factors = [[bf16(rng, 127 - width, min(127 + width, 190)) for _ in range(size)] for _ in "ab"]
            yield (binary32(rng, 127 - width, min(127 + width, 254)), *factors)
    for c in (0, 0x80000000, 1, 0x807FFFFF, 0x00800000):  # tiny accumulators
        yield (c, *ordinary())
        yield (c, [bf16(rng, 0, 30) for _ in range(size)], [bf16(rng, 90, 110) for _ in range(size)])
        yield (c, [0] * size, [0x8000] * size)
        a, b = [0] * size, [bf16(rng, 250, 254) for _ in range(size)]
        a[place()] = 1
        yield (c, a, b)  # a zero beside a large factor counts in the alignment
    for _ in range(6):  # subnormal factors
        yield (binary32(rng, 0, 12), [bf16(rng, 0, 1) for _ in range(size)], [bf16(rng, 120, 140) for _ in range(size)])
        yield (binary32(rng, 0, 1), [bf16(rng, 0, 0) for _ in range(size)], [bf16(rng, 0, 254) for _ in range(size)])
    for _ in range(6):  # subnormal sums
        yield (binary32(rng, 0, 3), [bf16(rng, 60, 66) for _ in range(size)], [bf16(rng, 58, 66) for _ in range(size)])
    for _ in range(8):  # cancellation, whole and partial
        a, b = ordinary()
        for i in range(0, size, 2):
            a[i + 1], b[i + 1] = a[i] ^ 0x8000, b[i]
        yield (0, list(a), list(b))
        b[place()] ^= 1
        yield (binary32(rng, 90, 100), a, b)
    for sign in (0, 0x8000):  # the largest sums of cut terms
        for c in (0x3FFFFFFF, 0xBFFFFFFF, 0x407FFFFF, 0x40800000):
            yield (c, [0x3FFF] * size, [0x3FFF | sign] * size)
    for last in (0x7F7F, 0xFF7F):  # overflow, and just below it
        yield (0x7F7FFFFF, [0x7F7F] * size, [last] * size)
        yield (0x7F7FFFFF, [0x3F80] + [0] * (size - 1), [0x7300 | last & 0x8000] + [0] * (size - 1))
        yield (0xFF7FFFFF, [0x3F80] + [0] * (size - 1), [last] + [0] * (size - 1))
    for special in (0x7F80, 0xFF80, 0x7FC0, 0xFF81):  # infinities and NaN
        for other in (0x3F80, 0xBF80, 0, 0x8001, 0x7F80):
            a, b = ordinary()
            i = place()
            a[i], b[i] = special, other
            yield (binary32(rng, 120, 130), a, b)
        a, b = ordinary()
        a[0], b[0], a[1], b[1] = special, 0x4000, 0x7F80, 0x4000
        yield (binary32(rng, 120, 130), a, b)
        yield (special << 16, *ordinary())
        a, b = ordinary()
        a[place()] = 0x7F80
        yield (special << 16, a, b)


def main():
    lines = ["# core, accumulator, a, b, sum: scripts/golden/make_tensor_core.py"]
    for core, (_, size) in CORES.items():
        rng = random.Random(f"tensor core {core}")
        for c, a, b in groups(rng, size):
            words = lambda x: "".join(f"{x:04x}" for x in x)
            lines.append(f"{core} {c:08x} {words(a)} {words(b)} {tensor_sum(core, c, a, b):08x}")
    path = pathlib.Path(__file__).parents[2] / "tests/golden/tensor_core.txt"
    path.write_text("\n".join(lines) + "\n")


main()
