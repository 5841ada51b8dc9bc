#!/usr/bin/env python3
"""Writes tests/golden/updates.txt: updates and their bytes by docs/WIRE.md, nothing else.

Plain Python, nothing but the standard library. Lines:
  block CODEC K INPUT BYTES       a block of one tensor
  update CODEC K TENSORS INPUT BYTES   a whole update; TENSORS is name:elements,...; the job's identity is 32 bytes
                                  of 7, the round 258, the fragment 3
INPUT is f32 numbers in hexadecimal, or made by a generator: see `generate`.
"""

import pathlib
import struct

CHUNK, BLOCK, RUN = 4096, 64 * 4096, 256
LARGEST = 2**24 - 1
NUMBERS = {"f32": 0, "bf16": 1, "int8": 2, "e3m0": 3, "sign": 4, "top_k": 5}


# ---- numbers ----

def f32(x):
    """`x` rounded to f32; Python's floats are f64, whose sums and products of f32 round rightly."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def bits_of(x):
    return struct.unpack("<I", struct.pack("<f", x))[0]


def from_bits(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def flushed(x):
    return 0.0 if abs(x) < 2.0**-126 else x


def exponent_of(x):
    """E with 2^E <= x < 2^(E+1)."""
    return (bits_of(x) >> 23) - 127


def bounded(x, low, high):
    return min(max(x, low), high)


def significant(x, count):
    """A positive number rounded to `count` significant bits, ties to even; exact, in f64."""
    unit = 2.0 ** (exponent_of(x) - count + 1)
    return round(x / unit) * unit


def rounded_binade(x):
    """Exponent of the nearest power of two, the lower one on a tie; x > 0 in f64."""
    e = (struct.unpack("<Q", struct.pack("<d", x))[0] >> 52) - 1023
    return e + (1 if x > 1.5 * 2.0**e else 0)


# ---- section 3.1 to 3.4 ----

def floats(chunk, count):
    chunk = [flushed(x) for x in chunk]
    largest = max(abs(x) for x in chunk)
    most = LARGEST if count == 24 else 255 << 16
    if largest == 0:
        exponent = -126
    else:
        m = significant(largest, count)
        e = exponent_of(largest) + (1 if m >= 2.0 ** (exponent_of(largest) + 1) else 0)
        exponent = bounded(e - 23, -126, 103)
    out = b""
    for x in chunk:
        code = 0
        if x != 0:
            unit = max(2.0**exponent, 2.0 ** (exponent_of(abs(x)) - count + 1))
            code = min(round(abs(x) / unit) * unit / 2.0**exponent, most)
        value = bits_of(code * 2.0**exponent) | (bits_of(x) & 1 << 31 if code else 0)
        out += struct.pack("<I", value) if count == 24 else struct.pack("<H", value >> 16)
    return out


def int8(chunk):
    chunk = [flushed(x) for x in chunk]
    largest = max(abs(x) for x in chunk)
    reach = -400
    while 127 * 2.0**reach < largest:
        reach += 1
    code = lambda x, e: round(bounded(f32(x * 2.0**-e), -127, 127))
    def error(e):
        sums = [0.0] * 16
        for i, x in enumerate(chunk):
            d = f32(f32(x * 2.0**-e) - code(x, e))
            sums[i % 16] = f32(sums[i % 16] + f32(d * d))
        total = 0.0
        for s in sums:
            total += s
        return total
    whole, half = bounded(reach, -126, 103), bounded(reach - 1, -126, 103)
    factor = 0.25 if half < whole else 1.0
    e = half if error(half) * factor < error(whole) else whole
    return struct.pack("<b", e) + b"".join(struct.pack("<b", code(x, e)) for x in chunk)


def nibbles(values):
    values = values + [0] * (len(values) % 2)
    return bytes(a | b << 4 for a, b in zip(values[::2], values[1::2]))


def e3m0(chunk):
    chunk = [flushed(x) for x in chunk]
    runs = [chunk[i:i + RUN] for i in range(0, len(chunk), RUN)]
    largest = [max(abs(x) for x in run) for run in runs]
    own = [bounded(rounded_binade(m) - 6, -126, 103) if m > 0 else None for m in largest]
    floor = max([e - 15 for e in own if e is not None] + [-126])
    counts = [m > 0.5 * 2.0**floor for m in largest]
    exponent = max([floor, min(e for e, c in zip(own, counts) if c)]) if any(counts) else -126
    shifts = [max(e - exponent, 0) if c else 0 for e, c in zip(own, counts)]
    levels = [0.0] + [2.0**i for i in range(7)]
    elements = []
    for run, shift in zip(runs, shifts):
        for x in run:
            u = abs(x) / 2.0 ** (exponent + shift)
            # min takes the first, the lower one, on a tie
            level = min(range(8), key=lambda i: abs(levels[i] - u))
            elements.append(level + (8 if x < 0 and level else 0))
    return struct.pack("<b", exponent) + nibbles(shifts) + nibbles(elements)


def packed(bits):
    bits = bits + [0] * (-len(bits) % 8)
    return bytes(sum(b << i for i, b in enumerate(bits[j:j + 8])) for j in range(0, len(bits), 8))


def sign(chunk):
    chunk = [flushed(x) for x in chunk]
    sums = [0.0] * 8
    for i, x in enumerate(chunk):
        sums[i % 8] += abs(x)
    total = 0.0
    for s in sums:
        total += s
    mean = total / len(chunk)
    if mean == 0 or rounded_binade(mean) < -126:
        return struct.pack("<b", -128) + packed([0] * len(chunk))
    return struct.pack("<b", min(rounded_binade(mean), 103)) + packed([int(x < 0) for x in chunk])


# ---- section 3.5 ----

def number(x, count):
    return [x >> i & 1 for i in range(count)]


def rice(x, p):
    return [1] * (x >> p) + [0] + number(x & (1 << p) - 1, p)


def select(chunk, k):
    most = -(-k * len(chunk) // CHUNK)
    bits = [bits_of(x) & 0x7FFFFFFF for x in chunk]
    least = max(bits_of(2.0**-123), max(bits) - (16 << 23))
    order = sorted((i for i in range(len(chunk)) if bits[i] >= least), key=lambda i: (-bits[i], i))
    return most, sorted(order[:most])


def level_near(mean):
    return bounded((bits_of(f32(mean)) + (1 << 19)) >> 20, 32, 2031)


def fit(magnitudes):
    m = sorted(magnitudes)
    n, total = len(m), 0.0
    for x in m:
        total += x
    best, below, split = total * total / n, 0.0, None
    for i in range(1, n):
        below += m[i - 1]
        g = below * below / i + (total - below) * (total - below) / (n - i)
        if g > best:
            best, split = g, (i, below)
    if split is None:
        return (level_near(total / n),) * 2
    i, below = split
    low, high = level_near(below / i), level_near((total - below) / (n - i))
    above = [x > threshold(low, high) for x in m]
    if all(above):
        return high, high
    return (low, high) if any(above) else (low, low)


def threshold(low, high):
    return (from_bits(low << 20) + from_bits(high << 20)) * 0.5


def class_of(d):
    v = d + 2
    o = v.bit_length() - 2
    return 2 * o + (v >> o) % 2, number(v & (1 << o) - 1, o)


def code_lengths(counts):
    while True:
        # Weight, joined or not, order: the smallest tuple is joined first.
        trees = [(n, 0, c, [c]) for c, n in enumerate(counts) if n]
        lengths = [0] * 23
        if len(trees) == 1:
            lengths[trees[0][2]] = 1
        joined = 0
        while len(trees) > 1:
            trees.sort()
            a, b = trees[:2]
            for c in a[3] + b[3]:
                lengths[c] += 1
            trees = trees[2:] + [(a[0] + b[0], 1, joined, a[3] + b[3])]
            joined += 1
        if max(lengths) <= 11:
            return lengths
        counts = [(n + 1) // 2 for n in counts]


def code_words(lengths):
    words, code, last = {}, 0, 0
    for length, c in sorted((l, c) for c, l in enumerate(lengths) if l):
        code <<= length - last
        last = length
        words[c] = [code >> i & 1 for i in reversed(range(length))]
        code += 1
    return words


def top_k(block, k):
    q = max(2 * 2839**2 // k**2, 1)
    p = (q.bit_length() - 1) // 2
    chunks = []
    for chunk in chunks_of(block):
        most, places = select(chunk, k)
        distances = [b - a - 1 for a, b in zip([-1] + places, places)]
        chunks.append((chunk, most, places, distances))
    everywhere = [d for c in chunks for d in c[3]]
    counts = [0] * 23
    for d in everywhere:
        counts[class_of(d)[0]] += 1
    lengths = code_lengths(counts)
    words = code_words(lengths)
    by_class = lambda d: words[class_of(d)[0]] + class_of(d)[1]
    by_rice = lambda d: rice(d, p)
    size = lambda code: sum(len(code(d)) for d in everywhere)
    if size(by_class) + 92 < size(by_rice):
        bits, write = [1] + [b for l in lengths for b in number(l, 4)], by_class
    else:
        bits, write = [0], by_rice
    before = None
    for chunk, most, places, distances in chunks:
        bits += rice(most - len(places), 0)
        if not places:
            continue
        low, high = fit([abs(chunk[i]) for i in places])
        if before is None:
            bits += number(low, 11)
        else:
            d = low - before
            bits += rice(2 * d if d >= 0 else -2 * d - 1, 2)
        before = low
        bits += rice(high - low, 2)
        for d in distances:
            bits += write(d)
        bits += [int(chunk[i] < 0) for i in places]
        if high > low:
            run = 0
            for i in places:
                if abs(chunk[i]) > threshold(low, high):
                    bits += rice(run, 1)
                    run = 0
                else:
                    run += 1
            bits += rice(run, 1)
    return packed(bits)


# ---- sections 1 and 2 ----

def chunks_of(block):
    return [block[i:i + CHUNK] for i in range(0, len(block), CHUNK)]


def encode_block(codec, k, block):
    if codec == "top_k":
        return top_k(block, k)
    one = {
        "f32": lambda c: floats(c, 24),
        "bf16": lambda c: floats(c, 8),
        "int8": int8,
        "e3m0": e3m0,
        "sign": sign,
    }[codec]
    return b"".join(one(chunk) for chunk in chunks_of(block))


def encode_update(codec, k, tensors, values):
    spec = bytes([NUMBERS[codec]]) + (struct.pack("<H", k) if codec == "top_k" else b"")
    layout = b"".join(struct.pack("<Q", len(n)) + n.encode() + struct.pack("<Q", e) for n, e in tensors)
    out = b"NSU1" + bytes([len(spec)]) + spec
    out += blake3("neuroshard 2025 v1 update layout", layout) + bytes([7] * 32) + struct.pack("<QI", 258, 3)
    first = 0
    for _, elements in tensors:
        for start in range(first, first + elements, BLOCK):
            block = encode_block(codec, k, values[start:min(start + BLOCK, first + elements)])
            out += struct.pack("<I", len(block)) + block
        first += elements
    return out


# ---- BLAKE3 (its specification, sections 2.1 to 2.4), of one chunk, 1,024 bytes at most ----

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
COLUMNS = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15)]
DIAGONALS = [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]


def compress(key, block, length, flags):
    mask = 0xFFFFFFFF
    turn = lambda x, n: (x >> n | x << 32 - n) & mask
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = key + IV[:4] + [0, 0, length, flags]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate(COLUMNS + DIAGONALS):
            for x, first, second in ((m[2 * i], 16, 12), (m[2 * i + 1], 8, 7)):
                v[a] = (v[a] + v[b] + x) & mask
                v[d] = turn(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) & mask
                v[b] = turn(v[b] ^ v[c], second)
        m = [m[i] for i in PERMUTATION]
    return [v[i] ^ v[i + 8] for i in range(8)]


def one_chunk(key, data, flags):
    assert len(data) <= 1024
    blocks = [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
    for i, block in enumerate(blocks):
        start = 1 if i == 0 else 0
        end = 2 | 8 if i == len(blocks) - 1 else 0
        key = compress(key, block, len(block), flags | start | end)
    return key


def blake3(context, data):
    key = one_chunk(IV, context.encode(), 32)
    return struct.pack("<8I", *one_chunk(key, data, 64))


# ---- the vectors ----

def generate(kind, seed, count):
    """`count` numbers: a linear congruential generator's states, made f32.

    `wide`: exponents from -9 to -2; `rows`: the same, but small except in every 64th place and a few others;
    `any`: every finite f32."""
    state, out = seed, []
    for i in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        bits = state & 0x807FFFFF
        if kind == "any":
            exponent = state >> 23 & 255
            bits |= min(exponent, 254) << 23
        else:
            bits |= 118 + (state >> 24 & 7) << 23
            if kind == "rows" and i % 64 and state >> 8 & 1023:
                bits -= 10 << 23
        out.append(from_bits(bits))
    return out


def vectors():
    hexes = lambda values: ",".join(f"{bits_of(x):08x}" for x in values) or "-"
    small = [
        [0.0], [-0.0, 0.0], [1.0], [-1.5, 0.75], [1.0, -1.0, 1.0, 1.0, -1.0], [2.0**-126, -(2.0**-126)],
        [from_bits(1), from_bits(0x807FFFFF)], [from_bits(0x7F7FFFFF), -1.0, from_bits(0xFF7FFFFF)],
        [2.0**-123, 2.0**-124, 1.99 * 2.0**-126], [2.0**127, 1.0], [1e30, 1e-30, 3e25, -2e25, 1e20],
        [63.4, -63.6, 3.0, 0.5], [64.2, 1.4, 0.6, -0.6, 0.3], [1.5, 3.0, 6.0, -12.0, 0.75, 0.375],
        [from_bits(0x3F7FFFFF), 0.5, from_bits(0x3F808000), from_bits(0x3F818000)], [3.0] * 17, [127.0, -64.5, 63.5],
    ]
    small.append([x for i in range(40) for x in (2.0**-i, -(2.0**-i) * 1.3)])
    runs = [2.0 ** (-5 * (i // RUN)) * (1 + i % 7) for i in range(1100)]
    for codec in NUMBERS:
        for k in (64, 2048) if codec == "top_k" else (64,):
            for values in small:
                values = [f32(x) for x in values]
                yield f"block {codec} {k} {hexes(values)} {encode_block(codec, k, values).hex()}"
    yield f"block e3m0 64 {hexes(runs)} {encode_block('e3m0', 64, runs).hex()}"
    made = [
        ("f32", 64, "wide", 1, 70), ("f32", 64, "any", 2, 300), ("bf16", 64, "wide", 3, 70), ("bf16", 64, "any", 4, 300),
        ("int8", 64, "wide", 5, 300), ("int8", 64, "any", 6, 300), ("e3m0", 64, "wide", 7, 700),
        ("e3m0", 64, "any", 8, 700), ("sign", 64, "wide", 9, 4100), ("sign", 64, "any", 10, 300),
        ("top_k", 64, "wide", 11, 9000), ("top_k", 64, "rows", 12, 40000), ("top_k", 64, "any", 13, 9000),
        ("top_k", 1, "wide", 14, 9000), ("top_k", 700, "wide", 15, 5000), ("top_k", 4096, "wide", 16, 500),
        ("top_k", 4096, "any", 17, 500), ("top_k", 33, "rows", 18, 30000), ("top_k", 3, "rows", 19, 4096),
    ]
    for codec, k, kind, seed, count in made:
        out = encode_block(codec, k, generate(kind, seed, count)).hex()
        yield f"block {codec} {k} {kind}:{seed}:{count} {out}"
    tensors = [("embedding", 5000), ("norm", 3), ("nothing", 0), ("head", 1)]
    for i, codec in enumerate(("top_k", "sign", "int8")):
        count = sum(e for _, e in tensors)
        out = encode_update(codec, 64, tensors, generate("wide", 100 + i, count)).hex()
        names = ",".join(f"{n}:{e}" for n, e in tensors)
        yield f"update {codec} 64 {names} wide:{100 + i}:{count} {out}"
    example = [f32(x) for x in (0.25, -3.0, 0.0, 0.5, 2.5, -0.125, 1.0, -7.0)]
    yield f"update top_k 2048 w:8 {hexes(example)} {encode_update('top_k', 2048, [('w', 8)], example).hex()}"


def main():
    path = pathlib.Path(__file__).parents[2] / "tests/golden/updates.txt"
    lines = ["# Updates and their bytes; made by scripts/golden/make_updates.py, read by tests/codec."]
    path.write_text("\n".join(lines + list(vectors())) + "\n")


if __name__ == "__main__":
    main()
