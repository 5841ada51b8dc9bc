// Gradients of causal attention with grouped queries on tensor cores by mma.sync: the `tc` profile
// (docs/ARITHMETIC.md, 16.7; algorithm 2 of Dao 2023, arXiv:2307.08691, without atomics).
// Launcher: src/backend/cuda/attention/backward.rs.
//
// Three kernels. `delta`: row sums of dout * out. `keys`: a block owns 128 keys of one key/value
// head and meets the queries of all heads of its group, so dk and dv never leave registers.
// `queries`: a block owns 64 queries of one head and meets the keys, so dq needs no sum between
// blocks; the scores are computed twice for that.

#include "attention_tc.cuh"

using namespace attention_tc;

namespace {

// One warp per row of a head: 128 partials, lane l holds 4l to 4l + 3.
template <int D>
__device__ __forceinline__ void delta(float* out_delta, const bf16* dout, const bf16* out,
                                      int64_t rows, int tokens, int heads) {
  int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  if (row >= rows) return;
  float p[4] = {};
  if (4 * lane < D) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int64_t at = row * D + 4 * lane + i;
      p[i] = fmaf(widen(dout[at]), widen(out[at]), 0.0f);
    }
  }
  for (int width = 16; width > 0; width /= 2) {
#pragma unroll
    for (int i = 0; i < 4; i++) p[i] += __shfl_xor_sync(0xffffffffu, p[i], width);
  }
  // Rows are (sequence, token, head); the result is (sequence, head, token).
  int64_t token = row / heads, head = row % heads, sequence = token / tokens;
  if (lane == 0) {
    out_delta[(sequence * heads + head) * tokens + token % tokens] = (p[0] + p[2]) + (p[1] + p[3]);
  }
}

constexpr int KEY_THREADS = 256;

// Queries that are met at a time: half a tile, so that all sums fit into registers.
constexpr int HALF = QUERIES / 2;

template <int D>
__device__ __forceinline__ void keys(bf16* dqkv, const bf16* dout, const float* lse,
                                     const float* deltas, const bf16* qkv, Extents e, float c,
                                     float scale) {
  DYNAMIC_SHARED(bf16, shared);
  bf16 *k_tile = shared, *v_tile = k_tile + KEYS * D, *q_tile = v_tile + KEYS * D;
  bf16* dout_tile = q_tile + QUERIES * D;
  float* lse_tile = reinterpret_cast<float*>(dout_tile + QUERIES * D);
  float* delta_tile = lse_tile + QUERIES;
  // The first keys meet the most queries: they begin.
  int k0 = blockIdx.x * KEYS, kv_head = blockIdx.y, sequence = blockIdx.z;
  int group = e.heads / e.kv_heads;
  int64_t row = e.row<D>(), out_row = (int64_t)e.heads * D;
  const bf16* from = qkv + (int64_t)sequence * e.tokens * row;
  int64_t k_at = (int64_t)(e.heads + kv_head) * D, v_at = k_at + (int64_t)e.kv_heads * D;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int key[2] = {k0 + warp * 16 + lane / 4, k0 + warp * 16 + lane / 4 + 8};

  fetch<D, KEYS>(k_tile, from + k_at, row, k0, e.tokens);
  fetch<D, KEYS>(v_tile, from + v_at, row, k0, e.tokens);
  float dk[D / 8][4] = {}, dv[D / 8][4] = {};
  int first = k0 / QUERIES, tiles = (e.tokens + QUERIES - 1) / QUERIES;
  for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
    int64_t lines = ((int64_t)sequence * e.heads + head) * e.tokens;
    for (int tile = tiles - 1; tile >= first; tile--) {
      // Everybody has left the tile before.
      __syncthreads();
      int q0 = tile * QUERIES;
      fetch<D, QUERIES>(q_tile, from + (int64_t)head * D, row, q0, e.tokens);
      fetch<D, QUERIES>(dout_tile, dout + (int64_t)sequence * e.tokens * out_row + (int64_t)head * D,
                        out_row, q0, e.tokens);
      cp_async_commit();
      if (threadIdx.x < QUERIES) {
        bool there = q0 + threadIdx.x < e.tokens;
        lse_tile[threadIdx.x] = there ? lse[lines + q0 + threadIdx.x] : 0.0f;
        delta_tile[threadIdx.x] = there ? deltas[lines + q0 + threadIdx.x] : 0.0f;
      }
      cp_async_wait<0>();
      __syncthreads();
#pragma unroll
      for (int half = 0; half < QUERIES; half += HALF) {
        // Keys by queries, so that the probabilities are a left factor as they lie.
        float p[HALF / 8][4] = {}, ds[HALF / 8][4] = {};
#pragma unroll
        for (int d = 0; d < D; d += 16) {
          uint32_t a[4], b[4];
          load_a<D>(a, k_tile, warp * 16, d);
#pragma unroll
          for (int j = 0; j < HALF / 16; j++) {
            load_b<D>(b, q_tile, half + 16 * j, d);
            mma_m16n8k16(p[2 * j], a, b[0], b[1]);
            mma_m16n8k16(p[2 * j + 1], a, b[2], b[3]);
          }
          load_a<D>(a, v_tile, warp * 16, d);
#pragma unroll
          for (int j = 0; j < HALF / 16; j++) {
            load_b<D>(b, dout_tile, half + 16 * j, d);
            mma_m16n8k16(ds[2 * j], a, b[0], b[1]);
            mma_m16n8k16(ds[2 * j + 1], a, b[2], b[3]);
          }
        }
#pragma unroll
        for (int j = 0; j < HALF / 8; j++) {
#pragma unroll
          for (int i = 0; i < 4; i++) {
            int at = half + 8 * j + lane % 4 * 2 + i % 2, query = q0 + at;
            bool meets = key[i / 2] <= query && query < e.tokens;
            float x = exact_exp2(fmaf(p[j][i], c, -lse_tile[at]));
            p[j][i] = meets ? x : 0.0f;
            ds[j][i] = meets ? x * (ds[j][i] - delta_tile[at]) : 0.0f;
          }
        }
#pragma unroll
        for (int j = 0; j < HALF / 16; j++) {
          uint32_t a[4], b[4];
          as_left(a, p[2 * j], p[2 * j + 1]);
#pragma unroll
          for (int d = 0; d < D / 16; d++) {
            load_b_across<D>(b, dout_tile, half + 16 * j, 16 * d);
            mma_m16n8k16(dv[2 * d], a, b[0], b[1]);
            mma_m16n8k16(dv[2 * d + 1], a, b[2], b[3]);
          }
          as_left(a, ds[2 * j], ds[2 * j + 1]);
#pragma unroll
          for (int d = 0; d < D / 16; d++) {
            load_b_across<D>(b, q_tile, half + 16 * j, 16 * d);
            mma_m16n8k16(dk[2 * d], a, b[0], b[1]);
            mma_m16n8k16(dk[2 * d + 1], a, b[2], b[3]);
          }
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (key[r] >= e.tokens) continue;
    bf16* to = dqkv + ((int64_t)sequence * e.tokens + key[r]) * row + lane % 4 * 2;
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
      *reinterpret_cast<uint32_t*>(to + k_at + 8 * d) =
          pack(dk[d][2 * r] * scale, dk[d][2 * r + 1] * scale);
      *reinterpret_cast<uint32_t*>(to + v_at + 8 * d) = pack(dv[d][2 * r], dv[d][2 * r + 1]);
    }
  }
}

constexpr int QUERY_THREADS = 128;

// Keys that are met at a time: a quarter of a tile.
constexpr int QUARTER = KEYS / 4;

template <int D>
__device__ __forceinline__ void queries(bf16* dqkv, const bf16* dout, const float* lse,
                                        const float* deltas, const bf16* qkv, Extents e, float c,
                                        float scale) {
  DYNAMIC_SHARED(bf16, shared);
  bf16 *q_tile = shared, *dout_tile = q_tile + QUERIES * D, *k_tile = dout_tile + QUERIES * D;
  bf16* v_tile = k_tile + KEYS * D;
  int q0 = (gridDim.x - 1 - blockIdx.x) * QUERIES, head = blockIdx.y, sequence = blockIdx.z;
  int kv_head = head / (e.heads / e.kv_heads);
  int64_t row = e.row<D>(), out_row = (int64_t)e.heads * D;
  const bf16* from = qkv + (int64_t)sequence * e.tokens * row;
  const bf16* k_from = from + (int64_t)(e.heads + kv_head) * D;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int t[2] = {q0 + warp * 16 + lane / 4, q0 + warp * 16 + lane / 4 + 8};
  int64_t lines = ((int64_t)sequence * e.heads + head) * e.tokens;
  float row_lse[2], row_delta[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    row_lse[r] = t[r] < e.tokens ? lse[lines + t[r]] : 0.0f;
    row_delta[r] = t[r] < e.tokens ? deltas[lines + t[r]] : 0.0f;
  }
  fetch<D, QUERIES>(q_tile, from + (int64_t)head * D, row, q0, e.tokens);
  fetch<D, QUERIES>(dout_tile, dout + (int64_t)sequence * e.tokens * out_row + (int64_t)head * D,
                    out_row, q0, e.tokens);
  float dq[D / 8][4];
  for (int tile = 0; tile <= q0 / KEYS; tile++) {
    __syncthreads();
    fetch<D, KEYS>(k_tile, k_from, row, tile * KEYS, e.tokens);
    fetch<D, KEYS>(v_tile, k_from + (int64_t)e.kv_heads * D, row, tile * KEYS, e.tokens);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    float part[D / 8][4] = {};
#pragma unroll 1
    for (int quarter = 0; quarter < KEYS; quarter += QUARTER) {
      float p[QUARTER / 8][4] = {}, ds[QUARTER / 8][4] = {};
#pragma unroll
      for (int d = 0; d < D; d += 16) {
        uint32_t a[4], b[4];
        load_a<D>(a, q_tile, warp * 16, d);
#pragma unroll
        for (int j = 0; j < QUARTER / 16; j++) {
          load_b<D>(b, k_tile, quarter + 16 * j, d);
          mma_m16n8k16(p[2 * j], a, b[0], b[1]);
          mma_m16n8k16(p[2 * j + 1], a, b[2], b[3]);
        }
        load_a<D>(a, dout_tile, warp * 16, d);
#pragma unroll
        for (int j = 0; j < QUARTER / 16; j++) {
          load_b<D>(b, v_tile, quarter + 16 * j, d);
          mma_m16n8k16(ds[2 * j], a, b[0], b[1]);
          mma_m16n8k16(ds[2 * j + 1], a, b[2], b[3]);
        }
      }
#pragma unroll
      for (int j = 0; j < QUARTER / 8; j++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          int r = i / 2, key = tile * KEYS + quarter + 8 * j + lane % 4 * 2 + i % 2;
          float x = exact_exp2(fmaf(p[j][i], c, -row_lse[r]));
          ds[j][i] = key <= t[r] && t[r] < e.tokens ? x * (ds[j][i] - row_delta[r]) : 0.0f;
        }
      }
#pragma unroll
      for (int j = 0; j < QUARTER / 16; j++) {
        uint32_t a[4], b[4];
        as_left(a, ds[2 * j], ds[2 * j + 1]);
#pragma unroll
        for (int d = 0; d < D / 16; d++) {
          load_b_across<D>(b, k_tile, quarter + 16 * j, 16 * d);
          mma_m16n8k16(part[2 * d], a, b[0], b[1]);
          mma_m16n8k16(part[2 * d + 1], a, b[2], b[3]);
        }
      }
    }
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
#pragma unroll
      for (int i = 0; i < 4; i++) dq[d][i] = tile == 0 ? part[d][i] : dq[d][i] + part[d][i];
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (t[r] >= e.tokens) continue;
    bf16* to = dqkv + ((int64_t)sequence * e.tokens + t[r]) * row + (int64_t)head * D + lane % 4 * 2;
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
      *reinterpret_cast<uint32_t*>(to + 8 * d) =
          pack(dq[d][2 * r] * scale, dq[d][2 * r + 1] * scale);
    }
  }
}

}  // namespace

// Grids: delta (rows / warps); keys (tiles of 128 keys, key/value heads, sequences); queries (tiles
// of 64 queries, heads, sequences). Shared: keys 2·128 + 2·64 rows of D and 128 floats, queries
// 2·64 + 2·128 rows of D.
#define BACKWARD(D)                                                                               \
  extern "C" __global__ void attention_delta_tc_##D(float* deltas, const bf16* dout,              \
                                                    const bf16* out, int64_t rows, int tokens,    \
                                                    int heads) {                                  \
    delta<D>(deltas, dout, out, rows, tokens, heads);                                             \
  }                                                                                               \
  extern "C" __global__ void __launch_bounds__(KEY_THREADS) attention_backward_keys_tc_##D(       \
      bf16* dqkv, const bf16* dout, const float* lse, const float* deltas, const bf16* qkv,       \
      int tokens, int heads, int kv_heads, float c, float scale) {                                \
    keys<D>(dqkv, dout, lse, deltas, qkv, Extents{tokens, heads, kv_heads}, c, scale);            \
  }                                                                                               \
  extern "C" __global__ void __launch_bounds__(QUERY_THREADS) attention_backward_queries_tc_##D(  \
      bf16* dqkv, const bf16* dout, const float* lse, const float* deltas, const bf16* qkv,       \
      int tokens, int heads, int kv_heads, float c, float scale) {                                \
    queries<D>(dqkv, dout, lse, deltas, qkv, Extents{tokens, heads, kv_heads}, c, scale);         \
  }

BACKWARD(32)
BACKWARD(64)
BACKWARD(128)
