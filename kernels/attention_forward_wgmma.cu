// Causal attention, forward, on Hopper: TMA, warp groups and wgmma; the `tc` profile
// (docs/ARITHMETIC.md, 16.7; warp specialization: Shah et al. 2024, arXiv:2407.08608). Launcher:
// src/backend/cuda/attention/tensor_cores.rs. Twin with the same bits: attention_forward_tc.cu.
//
// A block owns 128 queries of one head. One warp group fetches tiles of 128 keys and values; two
// others compute for 64 queries each, scores and sums in registers. While one of them makes
// probabilities, the tensor cores multiply for the other.

#include "attention_tc.cuh"
#include "hopper.cuh"

namespace {

constexpr int THREADS = 3 * 128;

#ifdef HOPPER

using namespace hopper;
using attention_tc::KEYS;

constexpr int QUERIES = 128, STAGES = 2;
// Boxes of 64 rows by 64 elements: 8 KiB. A tile of 128 rows has two for each 64 elements of a head.
constexpr int BOX = 64 * 64;

struct Barriers {
  uint64_t queries, keys_full[STAGES], keys_empty[STAGES], values_full[STAGES],
      values_empty[STAGES];
};

// 128 rows of a head, the first of which is `row` of sequence `z`; its first element is column `x`.
template <int D>
__device__ __forceinline__ void fetch(bf16* to, const void* map, uint64_t* full, int x, int row,
                                      int z) {
  barrier_expect(full, 128 * D * sizeof(bf16));
#pragma unroll
  for (int part = 0; part < D / 64; part++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      fetch_box(to + (2 * part + half) * BOX, map, full, x + 64 * part, row + 64 * half, z);
    }
  }
}

template <int D>
__device__ __forceinline__ void forward(bf16* out, float* lse, const char* map, int tokens,
                                        int heads, int kv_heads, float c) {
  DYNAMIC_SHARED(unsigned char, memory);
  // Swizzled boxes begin at multiples of 1,024 bytes.
  uintptr_t first = (reinterpret_cast<uintptr_t>(memory) + 1023) / 1024 * 1024;
  bf16* queries = reinterpret_cast<bf16*>(first);
  bf16 *keys = queries + QUERIES * D, *values = keys + STAGES * KEYS * D;
  __shared__ Barriers barriers;
  // The longest rows of all heads first, so that the last blocks are short ones.
  int t0 = (gridDim.z - 1 - blockIdx.z) * QUERIES, head = blockIdx.x, sequence = blockIdx.y;
  int kv_head = head / (heads / kv_heads), last = t0 / KEYS, warp_group = threadIdx.x / 128;

  if (threadIdx.x == 0) {
    acquire_map(map);
    barrier_init(&barriers.queries, 1);
    for (int i = 0; i < STAGES; i++) {
      barrier_init(&barriers.keys_full[i], 1);
      barrier_init(&barriers.values_full[i], 1);
      barrier_init(&barriers.keys_empty[i], 2);
      barrier_init(&barriers.values_empty[i], 2);
    }
    barriers_made();
  }
  __syncthreads();

  if (warp_group == 0) {
    give_registers<24>();
    if (threadIdx.x == 0) {
      fetch<D>(queries, map, &barriers.queries, head * D, t0, sequence);
      int k_column = (heads + kv_head) * D, v_column = k_column + kv_heads * D;
      for (int tile = 0; tile <= last; tile++) {
        int i = tile % STAGES, turn = tile / STAGES;
        if (turn > 0) barrier_wait(&barriers.keys_empty[i], (turn - 1) & 1);
        fetch<D>(keys + i * KEYS * D, map, &barriers.keys_full[i], k_column, tile * KEYS, sequence);
        if (turn > 0) barrier_wait(&barriers.values_empty[i], (turn - 1) & 1);
        fetch<D>(values + i * KEYS * D, map, &barriers.values_full[i], v_column, tile * KEYS,
                 sequence);
      }
    }
    return;
  }

  take_registers<240>();
  int half = warp_group - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  int t[2] = {t0 + half * 64 + warp * 16 + lane / 4, t0 + half * 64 + warp * 16 + lane / 4 + 8};
  bool signals = threadIdx.x % 128 == 0;
  float o[D / 2] = {};
  attention_tc::Softmax softmax;
  barrier_wait(&barriers.queries, 0);
  for (int tile = 0; tile <= last; tile++) {
    int i = tile % STAGES, turn = tile / STAGES;
    barrier_wait(&barriers.keys_full[i], turn & 1);
    float s[64] = {};
    wgmma_begin();
#pragma unroll
    for (int d = 0; d < D; d += 16) {
      // Elements 64 p and up of all rows follow those before them.
      const bf16* q = queries + d / 64 * 2 * BOX + half * BOX + d % 64;
      const bf16* k = keys + i * KEYS * D + d / 64 * 2 * BOX + d % 64;
      wgmma_m64n128k16<0, 0>(s, operand(q, 0), operand(k, 0));
    }
    wgmma_commit();
    wgmma_wait<0>();
    if (signals) barrier_arrive(&barriers.keys_empty[i]);

    softmax.tile(s, o, t, tile * KEYS, tile == last, c);
    uint32_t p[KEYS / 16][4];
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
#pragma unroll
      for (int x = 0; x < 4; x++) p[j][x] = pack(s[8 * j + 2 * x], s[8 * j + 2 * x + 1]);
    }

    barrier_wait(&barriers.values_full[i], turn & 1);
    wgmma_begin();
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
      const bf16* v = values + i * KEYS * D + j * 16 * 64;
      uint64_t b = operand(v, 2 * BOX * sizeof(bf16));
      if constexpr (D == 128) wgmma_m64n128k16<1>(o, p[j], b);
      else wgmma_m64n64k16<1>(o, p[j], b);
    }
    wgmma_commit();
    wgmma_wait<0>();
    if (signals) barrier_arrive(&barriers.values_empty[i]);
  }

#pragma unroll
  for (int r = 0; r < 2; r++) {
    float sum = softmax.sum(r), inverse = 1.0f / sum;
    if (t[r] >= tokens) continue;
    if (lane % 4 == 0) {
      lse[((int64_t)sequence * heads + head) * tokens + t[r]] =
          fmaf(exact_log(sum), LOG2_E, softmax.mc[r]);
    }
    bf16* to = out + ((int64_t)sequence * tokens + t[r]) * heads * D + (int64_t)head * D;
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
      *reinterpret_cast<uint32_t*>(to + 8 * d + lane % 4 * 2) =
          pack(o[4 * d + 2 * r] * inverse, o[4 * d + 2 * r + 1] * inverse);
    }
  }
}

#define BODY(D) forward<D>(out, lse, map, tokens, heads, kv_heads, c);
#else
#define BODY(D)
#endif

}  // namespace

// `map`: the tensor map of qkv as matrices of `tokens` rows, one per sequence. Grid: (query heads,
// sequences, tiles of 128 queries). Shared: 128 + 2·2·128 rows of D, and 1,024 bytes.
#define FORWARD(D)                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_forward_wgmma_##D(           \
      bf16* out, float* lse, const char* map, int tokens, int heads, int kv_heads, float c) {     \
    BODY(D)                                                                                       \
  }
FORWARD(64)
FORWARD(128)
