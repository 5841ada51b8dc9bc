// BLAKE3 of device memory: the chaining values of subtrees of 128 chunks (128 KiB), so that the
// hash of a tensor needs no copy to the host (BLAKE3 paper, O'Connor et al. 2020, sections 2.1 to
// 2.4; mode derive_key). Launcher: src/backend/cuda/digest.rs.

#include <stdint.h>

namespace {

constexpr int CHUNKS = 128, BLOCKS_OF_CHUNK = 16;
constexpr uint32_t CHUNK_START = 1, CHUNK_END = 2, PARENT = 4, DERIVE_KEY_MATERIAL = 64;

struct Value {
  uint32_t words[8];
};

__device__ __forceinline__ uint32_t rotate_right(uint32_t x, int by) {
  return x >> by | x << (32 - by);
}

__device__ __forceinline__ void mix(uint32_t& a, uint32_t& b, uint32_t& c, uint32_t& d, uint32_t x,
                                    uint32_t y) {
  a = a + b + x;
  d = rotate_right(d ^ a, 16);
  c = c + d;
  b = rotate_right(b ^ c, 12);
  a = a + b + y;
  d = rotate_right(d ^ a, 8);
  c = c + d;
  b = rotate_right(b ^ c, 7);
}

// The compression function, of 64 bytes; `value` becomes the new chaining value.
__device__ __forceinline__ void compress(uint32_t (&value)[8], const uint32_t (&block)[16],
                                         uint64_t counter, uint32_t flags) {
  uint32_t v[16] = {value[0],   value[1],   value[2],          value[3],
                    value[4],   value[5],   value[6],          value[7],
                    0x6a09e667, 0xbb67ae85, 0x3c6ef372,        0xa54ff53a,
                    (uint32_t)counter, (uint32_t)(counter >> 32), 64, flags};
  uint32_t m[16];
#pragma unroll
  for (int i = 0; i < 16; i++) m[i] = block[i];
#pragma unroll
  for (int round = 0; round < 7; round++) {
    mix(v[0], v[4], v[8], v[12], m[0], m[1]);
    mix(v[1], v[5], v[9], v[13], m[2], m[3]);
    mix(v[2], v[6], v[10], v[14], m[4], m[5]);
    mix(v[3], v[7], v[11], v[15], m[6], m[7]);
    mix(v[0], v[5], v[10], v[15], m[8], m[9]);
    mix(v[1], v[6], v[11], v[12], m[10], m[11]);
    mix(v[2], v[7], v[8], v[13], m[12], m[13]);
    mix(v[3], v[4], v[9], v[14], m[14], m[15]);
    // The message's permutation between rounds.
    const int from[16] = {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8};
    uint32_t next[16];
#pragma unroll
    for (int i = 0; i < 16; i++) next[i] = m[from[i]];
#pragma unroll
    for (int i = 0; i < 16; i++) m[i] = next[i];
  }
#pragma unroll
  for (int i = 0; i < 8; i++) value[i] = v[i] ^ v[i + 8];
}

}  // namespace

// One block per subtree, one thread per chunk. `bytes` begins with chunk `first_chunk` of its
// tensor, which is a multiple of 128; key0 to key3 are the context's key, little-endian.
extern "C" __global__ void __launch_bounds__(CHUNKS)
    digest_subtrees(Value* values, const uint32_t* bytes, uint64_t key0, uint64_t key1, uint64_t key2,
                    uint64_t key3, uint64_t first_chunk) {
  const uint32_t key[8] = {(uint32_t)key0, (uint32_t)(key0 >> 32), (uint32_t)key1,
                           (uint32_t)(key1 >> 32), (uint32_t)key2, (uint32_t)(key2 >> 32),
                           (uint32_t)key3, (uint32_t)(key3 >> 32)};
  __shared__ uint32_t tree[CHUNKS][8];
  int thread = threadIdx.x;
  uint64_t chunk = (uint64_t)blockIdx.x * CHUNKS + thread;
  const uint4* from = reinterpret_cast<const uint4*>(bytes) + chunk * 64;
  uint32_t value[8], block[16];
#pragma unroll
  for (int i = 0; i < 8; i++) value[i] = key[i];
#pragma unroll 1
  for (int b = 0; b < BLOCKS_OF_CHUNK; b++) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      uint4 words = from[b * 4 + i];
      block[4 * i] = words.x;
      block[4 * i + 1] = words.y;
      block[4 * i + 2] = words.z;
      block[4 * i + 3] = words.w;
    }
    uint32_t edge = (b == 0 ? CHUNK_START : 0) | (b + 1 == BLOCKS_OF_CHUNK ? CHUNK_END : 0);
    compress(value, block, first_chunk + chunk, DERIVE_KEY_MATERIAL | edge);
  }
#pragma unroll
  for (int i = 0; i < 8; i++) tree[thread][i] = value[i];
  for (int parents = CHUNKS / 2; parents > 0; parents /= 2) {
    __syncthreads();
    if (thread < parents) {
#pragma unroll
      for (int i = 0; i < 8; i++) {
        block[i] = tree[2 * thread][i];
        block[8 + i] = tree[2 * thread + 1][i];
        value[i] = key[i];
      }
      compress(value, block, 0, DERIVE_KEY_MATERIAL | PARENT);
    }
    // Everybody has read the children before parents take their place.
    __syncthreads();
    if (thread < parents) {
#pragma unroll
      for (int i = 0; i < 8; i++) tree[thread][i] = value[i];
    }
  }
  if (thread == 0) {
#pragma unroll
    for (int i = 0; i < 8; i++) values[blockIdx.x].words[i] = value[i];
  }
}
