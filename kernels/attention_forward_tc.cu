// Causal attention with grouped queries, forward, on tensor cores by mma.sync: the `tc` profile
// (docs/ARITHMETIC.md, 16.7; online softmax: Dao 2023, arXiv:2307.08691, algorithm 1).
// Launcher: src/backend/cuda/attention/tc.rs.
//
// A thread block of four warps owns 64 queries of one head, each warp 16 of them with all their
// sums in registers; keys and values come by tiles of 128. While scores of a tile are computed its
// values arrive, and while values are summed the next keys do.

#include "attention_tc.cuh"

using namespace attention_tc;

namespace {

constexpr int THREADS = 128;

template <int D>
__device__ __forceinline__ void forward(bf16* out, float* lse, const bf16* qkv, Extents e, float c) {
  DYNAMIC_SHARED(bf16, shared);
  bf16 *queries = shared, *keys = queries + 64 * D, *values = keys + KEYS * D;
  // The longest rows first, so that the last blocks are short ones.
  int q0 = (gridDim.x - 1 - blockIdx.x) * 64, head = blockIdx.y, sequence = blockIdx.z;
  int kv_head = head / (e.heads / e.kv_heads);
  int64_t row = e.row<D>();
  const bf16* q_from = qkv + (int64_t)sequence * e.tokens * row + (int64_t)head * D;
  const bf16* k_from = q_from + (int64_t)(e.heads + kv_head - head) * D;
  const bf16* v_from = k_from + (int64_t)e.kv_heads * D;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  // This thread's two queries of the sequence: g and g + 8 of its warp's 16.
  int t[2] = {q0 + warp * 16 + lane / 4, q0 + warp * 16 + lane / 4 + 8};

  fetch<D, 64>(queries, q_from, row, q0, e.tokens);
  fetch<D, KEYS>(keys, k_from, row, 0, e.tokens);
  cp_async_commit();

  float o[D / 8][4] = {}, l[2][2] = {}, m[2] = {}, mc[2] = {};
  int last = q0 / KEYS;
  for (int tile = 0; tile <= last; tile++) {
    cp_async_wait<0>();
    // The keys are there, and everybody has left the values before.
    __syncthreads();
    fetch<D, KEYS>(values, v_from, row, tile * KEYS, e.tokens);
    cp_async_commit();

    float s[KEYS / 8][4] = {};
#pragma unroll
    for (int d = 0; d < D; d += 16) {
      uint32_t a[4], b[4];
      load_a<D>(a, queries, warp * 16, d);
#pragma unroll
      for (int j = 0; j < KEYS / 16; j++) {
        load_b<D>(b, keys, 16 * j, d);
        mma_m16n8k16(s[2 * j], a, b[0], b[1]);
        mma_m16n8k16(s[2 * j + 1], a, b[2], b[3]);
      }
    }

    // Scores become probabilities; keys after the query take no part in the maximum.
    const float none = __int_as_float(0xff800000);
    bool masked = tile == last;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float highest = none;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float& x = s[j][2 * r + i];
          if (masked && tile * KEYS + 8 * j + lane % 4 * 2 + i > t[r]) x = none;
          highest = larger(x, highest);
        }
      }
      highest = larger(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
      highest = larger(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
      float before = m[r];
      m[r] = tile == 0 ? highest : larger(before, highest);
      mc[r] = m[r] * c;
      float sums[2] = {};
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float& x = s[j][2 * r + i];
          bool after = masked && tile * KEYS + 8 * j + lane % 4 * 2 + i > t[r];
          x = after ? 0.0f : exact_exp2(fmaf(x, c, -mc[r]));
          sums[i] += x;
        }
      }
      if (tile == 0) {
        l[r][0] = sums[0];
        l[r][1] = sums[1];
      } else {
        float alpha = exact_exp2(fmaf(before, c, -mc[r]));
        l[r][0] = fmaf(l[r][0], alpha, sums[0]);
        l[r][1] = fmaf(l[r][1], alpha, sums[1]);
#pragma unroll
        for (int d = 0; d < D / 8; d++) {
          o[d][2 * r] *= alpha;
          o[d][2 * r + 1] *= alpha;
        }
      }
    }

    cp_async_wait<0>();
    // The values are there, and everybody has left the keys.
    __syncthreads();
    if (tile < last) fetch<D, KEYS>(keys, k_from, row, (tile + 1) * KEYS, e.tokens);
    cp_async_commit();
#pragma unroll
    for (int j = 0; j < KEYS / 16; j++) {
      uint32_t a[4], b[4];
      as_left(a, s[2 * j], s[2 * j + 1]);
#pragma unroll
      for (int d = 0; d < D / 16; d++) {
        load_b_across<D>(b, values, 16 * j, 16 * d);
        mma_m16n8k16(o[2 * d], a, b[0], b[1]);
        mma_m16n8k16(o[2 * d + 1], a, b[2], b[3]);
      }
    }
  }

#pragma unroll
  for (int r = 0; r < 2; r++) {
    float sums[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      sums[i] = l[r][i] + __shfl_xor_sync(0xffffffffu, l[r][i], 2);
      sums[i] += __shfl_xor_sync(0xffffffffu, sums[i], 1);
    }
    float sum = sums[0] + sums[1], inverse = 1.0f / sum;
    if (t[r] >= e.tokens) continue;
    if (lane % 4 == 0) {
      lse[((int64_t)sequence * e.heads + head) * e.tokens + t[r]] =
          fmaf(exact_log(sum), LOG2_E, mc[r]);
    }
    bf16* to = out + ((int64_t)sequence * e.tokens + t[r]) * e.heads * D + (int64_t)head * D;
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
      *reinterpret_cast<uint32_t*>(to + 8 * d + lane % 4 * 2) =
          pack(o[d][2 * r] * inverse, o[d][2 * r + 1] * inverse);
    }
  }
}

}  // namespace

// Grid: (tiles of 64 queries, query heads, sequences). Shared: 64 + 2·128 rows of D.
#define FORWARD(D)                                                                             \
  extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_tc_##D(              \
      bf16* out, float* lse, const bf16* qkv, int tokens, int heads, int kv_heads, float c) {  \
    forward<D>(out, lse, qkv, Extents{tokens, heads, kv_heads}, c);                            \
  }

FORWARD(32)
FORWARD(64)
FORWARD(128)
