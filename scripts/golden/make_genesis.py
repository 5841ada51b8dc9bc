#!/usr/bin/env python3
"""Writes tests/golden/genesis.txt: docs/DATA.md in plain Python, nothing but the standard library.

Lines:
  shard WIDTH TOKENS HASH            the hash of the shard of tokens i * 31 % 251
  root ...                           the root of a small manifest, see `main`
  facts HEX, proof-body HEX          of the proof of a sequence: all but the 21 bytes that say which
  sample SEED N PEERS H B S FIRST ROUND PEER STEP SHARD ROW EPOCH SEQUENCE
  signed SECRET PUBLIC ROOT SIGNATURE
"""

import hashlib
import pathlib
import struct

# ---- BLAKE3, by its paper ----

IV = [0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19]
PERMUTE = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8]
START, END, PARENT, ROOT, CONTEXT, MATERIAL = 1, 2, 4, 8, 32, 64
MASK = 2**32 - 1


def mix(v, a, b, c, d, x, y):
    def turn(w, n):
        return (w >> n | w << (32 - n)) & MASK

    v[a] = (v[a] + v[b] + x) & MASK
    v[d] = turn(v[d] ^ v[a], 16)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = turn(v[b] ^ v[c], 12)
    v[a] = (v[a] + v[b] + y) & MASK
    v[d] = turn(v[d] ^ v[a], 8)
    v[c] = (v[c] + v[d]) & MASK
    v[b] = turn(v[b] ^ v[c], 7)


def compress(cv, block, counter, length, flags):
    m = list(struct.unpack("<16I", block.ljust(64, b"\0")))
    v = cv + IV[:4] + [counter & MASK, counter >> 32, length, flags]
    for _ in range(7):
        for i, (a, b, c, d) in enumerate([(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                                          (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]):
            mix(v, a, b, c, d, m[2 * i], m[2 * i + 1])
        m = [m[i] for i in PERMUTE]
    return [v[i] ^ v[i + 8] for i in range(8)]


def largest_power_below(n):
    return 1 << ((n - 1).bit_length() - 1)


def subtree(key, flags, data, chunk, root):
    """The chaining value of `data`, the first chunk of which has the number `chunk`."""
    if len(data) <= 1024:
        cv, blocks = key, [data[i:i + 64] for i in range(0, len(data), 64)] or [b""]
        for i, block in enumerate(blocks):
            last = i == len(blocks) - 1
            more = (START if i == 0 else 0) | (END if last else 0) | (ROOT if last and root else 0)
            cv = compress(cv, block, chunk, len(block), flags | more)
        return cv
    left = 1024 * largest_power_below((len(data) + 1023) // 1024)
    a = subtree(key, flags, data[:left], chunk, False)
    b = subtree(key, flags, data[left:], chunk + left // 1024, False)
    return compress(key, words(a + b), 0, 64, flags | PARENT | (ROOT if root else 0))


def words(values):
    return struct.pack(f"<{len(values)}I", *values)


def key_of(domain):
    return subtree(IV, CONTEXT, f"neuroshard 2025 v1 {domain}".encode(), 0, True)


def hashed(domain, data):
    return words(subtree(key_of(domain), MATERIAL, data, 0, True))


# ---- sections 3 to 5 ----

def u64(*numbers):
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def text(s):
    return u64(len(s.encode())) + s.encode()


def merkle(leaves):
    if len(leaves) == 1:
        return leaves[0]
    left = largest_power_below(len(leaves))
    return hashed("merkle node", merkle(leaves[:left]) + merkle(leaves[left:]))


def path(leaves, index):
    if len(leaves) == 1:
        return []
    left = largest_power_below(len(leaves))
    if index < left:
        return path(leaves[:left], index) + [merkle(leaves[left:])]
    return path(leaves[left:], index - left) + [merkle(leaves[:left])]


def beside(key, data, chunk, start, end):
    """Values beside the path of the chunks start..end, from left to right."""
    first, last = chunk, chunk + (len(data) + 1023) // 1024
    if last <= start or end <= first:
        return [words(subtree(key, MATERIAL, data, chunk, False))]
    if start <= first and last <= end:
        return []
    left = largest_power_below(last - first)
    return (beside(key, data[:1024 * left], chunk, start, end)
            + beside(key, data[1024 * left:], chunk + left, start, end))


# ---- random numbers and the permutation ----

def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & MASK, (a >> 32) ^ c[3] ^ k[1], a & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def bits64(seed, purpose, step, index):
    tag = purpose << 24 | step >> 32 & 0xFFFF
    low, high, _, _ = philox([index & MASK, index >> 32, step & MASK, tag], [seed & MASK, seed >> 32])
    return high << 32 | low


def permuted(n, seed, epoch, x):
    a = int(n**0.5)
    while a * a >= n:
        a -= 1
    a += 1
    while True:
        l, r = x // a, x % a
        for k in range(8):
            l, r = r, (l + (bits64(seed, 2, epoch, k << 32 | r) * a >> 64)) % a
        x = l * a + r
        if x < n:
            return x


def sample(seed, n, peers, h, b, s, first, round_, peer, step, shard, row):
    at = (first + (round_ * h + step) * peers + peer) * b + shard * (b // s) + row
    return at // n, permuted(n, seed, at // n, at % n)


# ---- Ed25519, by RFC 8032 ----

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P


def add(a, b):
    (x, y), (u, v) = a, b
    t = D * x * u * y * v
    return ((x * v + y * u) * pow(1 + t, -1, P) % P, (y * v + x * u) * pow(1 - t, -1, P) % P)


def times(point, n):
    result = (0, 1)
    while n:
        if n & 1:
            result = add(result, point)
        point, n = add(point, point), n >> 1
    return result


def base():
    y = 4 * pow(5, -1, P) % P
    xx = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 else x, y)


def packed(point):
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def sign(secret, message):
    h = hashlib.sha512(secret).digest()
    a = int.from_bytes(h[:32], "little") & (1 << 254) - 8 | 1 << 254
    public = packed(times(base(), a))
    r = int.from_bytes(hashlib.sha512(h[32:] + message).digest(), "little") % Q
    big_r = packed(times(base(), r))
    k = int.from_bytes(hashlib.sha512(big_r + public + message).digest(), "little") % Q
    return public, big_r + ((r + k * a) % Q).to_bytes(32, "little")


def main():
    out = ["# Made by scripts/golden/make_genesis.py."]
    payloads = []
    for width, count in [(2, 1), (2, 512), (2, 513), (4, 5000), (2, 20_001), (2, 70_000)]:
        data = b"".join((i * 31 % 251).to_bytes(width, "little") for i in range(count))
        out.append(f"shard {width} {count} {hashed('token shard', data).hex()}")
    # Three shards of 9000, 9000 and 5000 tokens; blocks of 2049, one of 4 held out, seed 7.
    start, leaves, starts = 0, [], []
    for count in (9000, 9000, 5000):
        data = b"".join(((start + i) * 31 % 251).to_bytes(2, "little") for i in range(count))
        leaves.append(hashed("merkle leaf", u64(start, count) + hashed("token shard", data)))
        payloads.append(data)
        starts.append(start)
        start += count
    filters = u64(1) + text("exact-duplicate") + struct.pack("<I", 1) + u64(3)
    inputs = (u64(1) + text("a/b.jsonl") + u64(77) + bytes(range(32)) + u64(12)
              + text("jsonl") + text("text") + text("CC0-1.0") + text("caf\u00e9"))
    provenance = hashed("provenance", filters + inputs)
    facts = bytes([9] * 32) + struct.pack("<I", 2) + u64(300, start, 12, 2049, 4, 7, 3) + provenance
    root = hashed("dataset root", struct.pack("<I", 2) + facts + merkle(leaves))
    out.append(f"root {root.hex()}")
    # The sequence of 1024 predictions that stands first in block 4, tokens 8196 to 9220: two shards.
    out.append(f"facts {facts.hex()}")
    body = b""
    for i, (low, high) in enumerate([(8196, 9000), (9000, 9221)]):
        data, at = payloads[i], starts[i]
        first, last = (low - at) * 2 // 1024, -(-(high - at) * 2 // 1024)
        body += u64(i, at, len(data) // 2) + data[first * 1024:last * 1024]
        body += b"".join(beside(key_of("token shard"), data, 0, first, last))
        body += b"".join(path(leaves, i))
    out.append(f"proof-body {body.hex()}")
    for case in [(1, 97, 3, 4, 8, 2, 0, 5, 2, 3, 1, 3), (2**64 - 1, 2**40 - 87, 16, 500, 512, 8, 12345, 40, 15, 499, 7, 63),
                 (7, 2**40, 1000, 100, 1024, 16, 0, 999, 999, 99, 15, 63), (3, 5, 2, 1, 4, 4, 9, 100, 1, 0, 3, 0)]:
        epoch, sequence = sample(*case)
        out.append(f"sample {' '.join(map(str, case))} {epoch} {sequence}")
    secret = bytes(range(1, 33))
    public, signature = sign(secret, hashed("signed dataset", root))
    out.append(f"signed {secret.hex()} {public.hex()} {root.hex()} {signature.hex()}")
    path_out = pathlib.Path(__file__).parents[2] / "tests/golden/genesis.txt"
    path_out.write_text("\n".join(out) + "\n")


main()
