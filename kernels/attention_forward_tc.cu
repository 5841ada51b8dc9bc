// Causal attention with grouped queries, forward, on tensor cores by mma.sync: the `tc` profile
// (docs/ARITHMETIC.md, 16.7; online softmax: Dao 2023, arXiv:2307.08691, algorithm 1).
// Launcher: src/backend/cuda/attention/tensor_cores.rs.
//
// A thread block of four warps owns 64 queries of one head, each warp 16 of them with all their
// sums in registers; keys and values come by tiles of 128. While scores of a tile are computed its
// values arrive, and while values are summed the next keys do.

#include "attention_tc.cuh"

using namespace attention_tc;

namespace {

constexpr int THREADS = 128;

// Queries, keys and values of one head, each from its element 0 of row 0 on. The queries stand at
// positions `first` and up; there is a key for every position below `first + tokens`.
struct Head {
  const bf16 *q, *k, *v;
  int64_t q_row, kv_row;
  int first, tokens;
};

// `out` and `lse` (which may be null) are those of the head's first query; rows of `out` are
// `out_row` elements apart.
template <int D>
__device__ __forceinline__ void forward(bf16* out, int64_t out_row, float* lse, const Head& head,
                                        float c) {
  DYNAMIC_SHARED(bf16, shared);
  bf16 *queries = shared, *keys = queries + 64 * D, *values = keys + KEYS * D;
  // Blocks stand at multiples of 64 positions, so all queries of one end in the same tile of keys.
  // The longest rows come first, so that the last blocks are short ones.
  int t0 = (head.first / 64 + gridDim.x - 1 - blockIdx.x) * 64, positions = head.first + head.tokens;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  // This thread's two queries: g and g + 8 of its warp's 16.
  int t[2] = {t0 + warp * 16 + lane / 4, t0 + warp * 16 + lane / 4 + 8};

  fetch<D, 64>(queries, head.q, head.q_row, t0 - head.first, head.tokens);
  fetch<D, KEYS>(keys, head.k, head.kv_row, 0, positions);
  cp_async_commit();

  float o[D / 8][4] = {};
  Softmax softmax;
  int last = t0 / KEYS;
  for (int tile = 0; tile <= last; tile++) {
    cp_async_wait<0>();
    // The keys are there, and everybody has left the values before.
    __syncthreads();
    fetch<D, KEYS>(values, head.v, head.kv_row, tile * KEYS, positions);
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

    softmax.tile(flat(s), flat(o), t, tile * KEYS, tile == last, c);

    cp_async_wait<0>();
    // The values are there, and everybody has left the keys.
    __syncthreads();
    if (tile < last) fetch<D, KEYS>(keys, head.k, head.kv_row, (tile + 1) * KEYS, positions);
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
    float sum = softmax.sum(r), inverse = 1.0f / sum;
    if (t[r] < head.first || t[r] >= positions) continue;
    int64_t query = t[r] - head.first;
    if (lse && lane % 4 == 0) lse[query] = fmaf(exact_log(sum), LOG2_E, softmax.mc[r]);
    bf16* to = out + query * out_row;
#pragma unroll
    for (int d = 0; d < D / 8; d++) {
      *reinterpret_cast<uint32_t*>(to + 8 * d + lane % 4 * 2) =
          pack(o[d][2 * r] * inverse, o[d][2 * r + 1] * inverse);
    }
  }
}

template <int D>
__device__ __forceinline__ void forward_rows(bf16* out, float* lse, const bf16* qkv, Extents e,
                                             float c) {
  int head = blockIdx.y, kv_head = head / (e.heads / e.kv_heads);
  int64_t row = e.row<D>(), first = (int64_t)blockIdx.z * e.tokens, out_row = (int64_t)e.heads * D;
  const bf16* q = qkv + first * row + (int64_t)head * D;
  const bf16* k = q + (int64_t)(e.heads + kv_head - head) * D;
  Head h = {q, k, k + (int64_t)e.kv_heads * D, row, row, 0, e.tokens};
  forward<D>(out + first * out_row + (int64_t)head * D, out_row,
             lse + ((int64_t)blockIdx.z * e.heads + head) * e.tokens, h, c);
}

// New tokens of one sequence against a cache of rows [K keys | K values].
template <int D>
__device__ __forceinline__ void decode_rows(bf16* out, const bf16* qkv, const bf16* cache,
                                            Extents e, int first, float c) {
  int head = blockIdx.y, kv_head = head / (e.heads / e.kv_heads);
  const bf16* k = cache + (int64_t)kv_head * D;
  Head h = {qkv + (int64_t)head * D, k, k + (int64_t)e.kv_heads * D, e.row<D>(),
            (int64_t)2 * e.kv_heads * D, first, e.tokens};
  forward<D>(out + (int64_t)head * D, (int64_t)e.heads * D, nullptr, h, c);
}

}  // namespace

// Grid: (tiles of 64 positions, query heads, sequences). Shared: 64 + 2·128 rows of D.
#define FORWARD(D)                                                                             \
  extern "C" __global__ void __launch_bounds__(THREADS) attention_forward_tc_##D(              \
      bf16* out, float* lse, const bf16* qkv, int tokens, int heads, int kv_heads, float c) {  \
    forward_rows<D>(out, lse, qkv, Extents{tokens, heads, kv_heads}, c);                       \
  }                                                                                            \
  extern "C" __global__ void __launch_bounds__(THREADS) attention_decode_tc_##D(               \
      bf16* out, const bf16* qkv, const bf16* cache, int tokens, int heads, int kv_heads,      \
      int first, float c) {                                                                    \
    decode_rows<D>(out, qkv, cache, Extents{tokens, heads, kv_heads}, first, c);               \
  }

FORWARD(32)
FORWARD(64)
FORWARD(128)
