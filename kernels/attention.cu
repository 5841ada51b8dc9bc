// Causal attention of the profiles `f32` and `bf16` by plain FMAs: docs/ARITHMETIC.md, section 7.
// Launcher: src/backend/cuda/attention/plain.rs. For checking on a GPU; tensor cores have other bits.
//
// (One block per multiprocessor is what ptxas is told to reckon with: else it spills to fit more.)
// One warp per query (forward, dq) or per key (dk, dv). Its lanes share the 128 keys or 32 queries
// of a tile while scores are made, then the elements of the head while they are summed.

#include "chains.cuh"

namespace {

constexpr int KEYS = 128, WARPS = 4, MAX_HEAD = 256, PER_LANE = MAX_HEAD / 32;

struct Extents {
  int tokens, heads, kv_heads, width;
  __device__ int64_t row() const { return (int64_t)(heads + 2 * kv_heads) * width; }
};

// Chain over d of x[d] * y[d] from 0.
template <Profile P>
__device__ __forceinline__ float dot(const float* x, const float* y, int width) {
  float sum = 0.0f;
  for (int i = 0; i < chain_length<P>(width); i++) {
    int d = in_turn<P>(i);
    bool there = d < width;
    sum = step<P>(there ? enter<P>(x[d]) : 0.0f, there ? enter<P>(y[d]) : 0.0f, sum);
  }
  return sum;
}

// Lanes' elements of a sum over rows of a head: element d by lane d mod 32.
struct Sums {
  float at[PER_LANE];
  __device__ void clear() {
    for (int i = 0; i < PER_LANE; i++) at[i] = 0.0f;
  }
  // One step of every chain: factor times row[d].
  template <Profile P> __device__ void add(float factor, const float* row, int width) {
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) {
      int d = threadIdx.x % 32 + 32 * i;
      if (d < width) at[i] = step<P>(factor, row ? enter<P>(row[d]) : 0.0f, at[i]);
    }
  }
  __device__ void write(float* to, float factor, int width) const {
#pragma unroll
    for (int i = 0; i < PER_LANE; i++) {
      int d = threadIdx.x % 32 + 32 * i;
      if (d < width) to[d] = at[i] * factor + 0.0f;
    }
  }
};

// Queries are at positions first.. of the keys; q and out have rows of their own.
template <Profile P>
__device__ __forceinline__ void forward(float* out, float* lse, const float* q, int64_t q_row,
                                        const float* k, const float* v, int64_t kv_row, int t,
                                        int width, float scale, float* p) {
  int lane = threadIdx.x % 32;
  float m = 0.0f, l = 0.0f;
  Sums o;
  o.clear();
  for (int k0 = 0; k0 <= t; k0 += KEYS) {
    int count = min(KEYS, t + 1 - k0);
    float highest = __int_as_float(0xff800000), s[KEYS / 32];
#pragma unroll
    for (int i = 0; i < KEYS / 32; i++) {
      int j = lane + 32 * i;
      s[i] = j < count ? dot<P>(q, k + (k0 + j) * kv_row, width) * scale : highest;
    }
#pragma unroll
    for (int i = 0; i < KEYS / 32; i++) highest = larger(s[i], highest);
    for (int lanes = 16; lanes > 0; lanes /= 2) {
      highest = larger(highest, __shfl_xor_sync(0xffffffffu, highest, lanes));
    }
    float before = m;
    m = k0 == 0 ? highest : larger(before, highest);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < KEYS / 32; i++) {
      int j = lane + 32 * i;
      if (j < KEYS) p[j] = j < count ? exact_exp(s[i] - m) : 0.0f;
    }
    __syncwarp();
    float sum = 0.0f;
    for (int j = 0; j < count; j++) sum += p[j];
    if (k0 == 0) {
      l = sum;
    } else {
      float alpha = exact_exp(before - m);
      l = fmaf(l, alpha, sum);
#pragma unroll
      for (int i = 0; i < PER_LANE; i++) o.at[i] *= alpha;
    }
    for (int i = 0; i < chain_length<P>(count); i++) {
      int j = in_turn<P>(i);
      bool there = j < count;
      o.add<P>(there ? enter<P>(p[j]) : 0.0f, there ? v + (k0 + j) * kv_row : nullptr, width);
    }
  }
  o.write(out, 1.0f / l, width);
  if (lane == 0 && lse) *lse = m + exact_log(l);
}

// One warp per (sequence, query, head), heads fastest.
template <Profile P>
__device__ __forceinline__ void forward_rows(float* out, float* lse, const float* qkv, Extents e,
                                             int rows, float scale) {
  __shared__ float p[WARPS][KEYS];
  // 32-bit division needs no subroutine, for which registers would have to be spilled.
  int nth = blockIdx.x * WARPS + threadIdx.x / 32;
  if (nth >= rows) return;
  int head = nth % e.heads, kv_head = head / (e.heads / e.kv_heads);
  int n = nth / e.heads, t = n % e.tokens;
  int64_t sequence = n / e.tokens, row = e.row();
  const float* first = qkv + sequence * e.tokens * row;
  const float* k = first + (int64_t)(e.heads + kv_head) * e.width;
  forward<P>(out + (int64_t)nth * e.width, lse + (sequence * e.heads + head) * e.tokens + t,
             first + t * row + (int64_t)head * e.width, row, k, k + (int64_t)e.kv_heads * e.width,
             row, t, e.width, scale, p[threadIdx.x / 32]);
}

// New tokens at positions first.. against a cache of rows [K keys | K values].
template <Profile P>
__device__ __forceinline__ void decode_rows(float* out, const float* qkv, const float* cache,
                                            Extents e, int rows, int first, float scale) {
  __shared__ float p[WARPS][KEYS];
  int nth = blockIdx.x * WARPS + threadIdx.x / 32;
  if (nth >= rows) return;
  int head = nth % e.heads, kv_head = head / (e.heads / e.kv_heads);
  int n = nth / e.heads;
  int64_t kv_row = (int64_t)2 * e.kv_heads * e.width;
  const float* k = cache + (int64_t)kv_head * e.width;
  const float* q = qkv + (int64_t)n * e.row() + (int64_t)head * e.width;
  forward<P>(out + (int64_t)nth * e.width, nullptr, q, e.row(), k, k + (int64_t)e.kv_heads * e.width,
             kv_row, first + n, e.width, scale, p[threadIdx.x / 32]);
}

// delta of one query: a chain over d from 0.
__device__ __forceinline__ float delta(const float* dout, const float* out, int width) {
  float sum = 0.0f;
  for (int d = 0; d < width; d++) sum = fmaf(dout[d], out[d], sum);
  return sum;
}

struct Row {
  const float *q, *dout, *out;
  float lse;
};

__device__ __forceinline__ Row row_of(const float* qkv, const float* dout, const float* out,
                                      const float* lse, const Extents& e, int64_t sequence,
                                      int head, int t) {
  int64_t n = sequence * e.tokens + t, at = (n * e.heads + head) * e.width;
  return {qkv + (int64_t)n * e.row() + (int64_t)head * e.width, dout + at, out + at,
          lse[(sequence * e.heads + head) * e.tokens + t]};
}

// p and ds of one query and key.
template <Profile P>
__device__ __forceinline__ void pair(float& p, float& ds, const Row& r, float row_delta,
                                     const float* k, const float* v, int width, float scale) {
  p = exact_exp(dot<P>(r.q, k, width) * scale - r.lse);
  ds = (p * (dot<P>(r.dout, v, width) - row_delta)) * scale;
}

// dq: one warp per (sequence, query, head).
template <Profile P>
__device__ __forceinline__ void queries(float* dqkv, const float* dout, const float* out,
                                        const float* lse, const float* qkv, Extents e, int rows,
                                        float scale) {
  __shared__ float shared[WARPS][32];
  float* ds = shared[threadIdx.x / 32];
  int nth = blockIdx.x * WARPS + threadIdx.x / 32;
  if (nth >= rows) return;
  int lane = threadIdx.x % 32, head = nth % e.heads, kv_head = head / (e.heads / e.kv_heads);
  int n = nth / e.heads, t = n % e.tokens;
  int64_t sequence = n / e.tokens, row = e.row();
  const float* k = qkv + sequence * e.tokens * row + (int64_t)(e.heads + kv_head) * e.width;
  const float* v = k + (int64_t)e.kv_heads * e.width;
  Row r = row_of(qkv, dout, out, lse, e, sequence, head, t);
  float row_delta = delta(r.dout, r.out, e.width);
  Sums dq;
  dq.clear();
  for (int k0 = 0; k0 <= t; k0 += 32) {
    int j = k0 + lane;
    float p, d = 0.0f;
    if (j <= t) pair<P>(p, d, r, row_delta, k + j * row, v + j * row, e.width, scale);
    __syncwarp();
    ds[lane] = enter<P>(d);
    __syncwarp();
    int count = min(32, t + 1 - k0);
    for (int i = 0; i < chain_length<P>(count); i++) {
      int at = in_turn<P>(i);
      dq.add<P>(ds[at], k0 + at <= t ? k + (k0 + at) * row : nullptr, e.width);
    }
  }
  dq.write(dqkv + (int64_t)n * row + (int64_t)head * e.width, 1.0f, e.width);
}

// dk and dv: one warp per (sequence, key, key/value head).
template <Profile P>
__device__ __forceinline__ void keys(float* dqkv, const float* dout, const float* out,
                                     const float* lse, const float* qkv, Extents e, int rows,
                                     float scale) {
  __shared__ float shared[WARPS][2][32];
  float(*here)[32] = shared[threadIdx.x / 32];
  int nth = blockIdx.x * WARPS + threadIdx.x / 32;
  if (nth >= rows) return;
  int lane = threadIdx.x % 32, kv_head = nth % e.kv_heads, group = e.heads / e.kv_heads;
  int n = nth / e.kv_heads, j = n % e.tokens;
  int64_t sequence = n / e.tokens, row = e.row();
  const float* k = qkv + (int64_t)n * row + (int64_t)(e.heads + kv_head) * e.width;
  const float* v = k + (int64_t)e.kv_heads * e.width;
  Sums dk, dv;
  dk.clear();
  dv.clear();
  for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
    // Pairs of queries are counted from 0, so the one before an odd key's takes part with zeros.
    for (int t0 = j / 32 * 32; t0 < e.tokens; t0 += 32) {
      int t = t0 + lane;
      float p = 0.0f, ds = 0.0f;
      if (t >= j && t < e.tokens) {
        Row r = row_of(qkv, dout, out, lse, e, sequence, head, t);
        pair<P>(p, ds, r, delta(r.dout, r.out, e.width), k, v, e.width, scale);
      }
      __syncwarp();
      here[0][lane] = enter<P>(p);
      here[1][lane] = enter<P>(ds);
      __syncwarp();
      int count = min(32, e.tokens - t0);
      for (int i = 0; i < chain_length<P>(count); i++) {
        int at = in_turn<P>(i);
        bool there = at < count;
        Row r = row_of(qkv, dout, out, lse, e, sequence, head, there ? t0 + at : j);
        dv.add<P>(here[0][at], there ? r.dout : nullptr, e.width);
        dk.add<P>(here[1][at], there ? r.q : nullptr, e.width);
      }
    }
  }
  int64_t at = (int64_t)n * row + (int64_t)(e.heads + kv_head) * e.width;
  dk.write(dqkv + at, 1.0f, e.width);
  dv.write(dqkv + at + (int64_t)e.kv_heads * e.width, 1.0f, e.width);
}

// A block per token: the last `width` elements of its row of qkv are its row of the cache.
template <class T>
__device__ __forceinline__ void append(T* cache, const T* qkv, int width, int row) {
  int64_t n = blockIdx.x;
  const T* from = qkv + n * row + (row - width);
  for (int i = threadIdx.x; i < width; i += blockDim.x) cache[n * width + i] = from[i];
}

}  // namespace

extern "C" __global__ void attention_append_f32(float* cache, const float* qkv, int width, int row) {
  append(cache, qkv, width, row);
}
extern "C" __global__ void attention_append_bf16(bf16* cache, const bf16* qkv, int width, int row) {
  append(cache, qkv, width, row);
}

#define ATTENTION(P, NAME)                                                                         \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)                                         \
      attention_forward_##NAME(float* out, float* lse, const float* qkv, int tokens, int heads,    \
                               int kv_heads, int width, int rows, float scale) {               \
    forward_rows<P>(out, lse, qkv, {tokens, heads, kv_heads, width}, rows, scale);                 \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 1)                                         \
      attention_decode_##NAME(float* out, const float* qkv, const float* cache, int heads,         \
                              int kv_heads, int width, int rows, int first, float scale) {     \
    decode_rows<P>(out, qkv, cache, {0, heads, kv_heads, width}, rows, first, scale);              \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 1) attention_backward_queries_##NAME(      \
      float* dqkv, const float* dout, const float* out, const float* lse, const float* qkv,        \
      int tokens, int heads, int kv_heads, int width, int rows, float scale) {                 \
    queries<P>(dqkv, dout, out, lse, qkv, {tokens, heads, kv_heads, width}, rows, scale);          \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(32 * WARPS, 1) attention_backward_keys_##NAME(         \
      float* dqkv, const float* dout, const float* out, const float* lse, const float* qkv,        \
      int tokens, int heads, int kv_heads, int width, int rows, float scale) {                 \
    keys<P>(dqkv, dout, out, lse, qkv, {tokens, heads, kv_heads, width}, rows, scale);             \
  }
ATTENTION(Profile::F32, f32)
ATTENTION(Profile::Bf16, bf16)
