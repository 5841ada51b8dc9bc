// Gradients of causal attention on Hopper: TMA, warp groups and wgmma; the `tc` profile
// (docs/ARITHMETIC.md, 16.7; warp specialization: Shah et al. 2024, arXiv:2407.08608). Launcher:
// src/backend/cuda/attention/backward.rs. Twin with the same bits: attention_backward_tc.cu, which
// also makes `deltas`.
//
// `keys`: a block owns 128 keys of a key/value head and meets the queries of its group, 64 at a
// time. `queries`: a block owns 128 queries of a head and meets the keys, 64 at a time. So no sum
// is shared between blocks, but scores are made twice: 7 products of T x T x D instead of 5.
// One warp group fetches; two others compute for 64 of the block's rows each.
//
// Roofline, H200, D = 128, T = 8192, 32 query and 8 key/value heads: 1.92 TFLOP, 2.4 ms at the 790
// TFLOP/s that products reach; 0.43 GB of memory, 0.1 ms at 4.3 TB/s. From L2 a step brings 32 KiB
// for 8.4 (keys) or 6.3 (queries) MFLOP: 3.1 or 4.1 TB/s at full rate, of about 5.5. In one warp
// group's step the tensor core works 1,024 (768) cycles and reads shared memory for 768 (640) of
// them; the step is about 650 instructions of a warp, mostly exponentials, while products run for
// the other warp group. At D = 64 products take half as long, and instructions are the bound.

#include "attention_tc.cuh"
#include "hopper.cuh"

namespace {

constexpr int THREADS = 3 * 128;

#ifdef HOPPER

using namespace hopper;

// Tiles have 64 rows of a head: D / 64 boxes of 64 rows by 64 elements, 8 KiB each. A stage is a
// pair of tiles, of what is met: queries and dout, or keys and values.
constexpr int ROWS = 64, BOX = ROWS * 64, STAGES = 4;
template <int D> constexpr int TILE = ROWS * D;

struct Barriers {
  uint64_t own, full[STAGES], empty[STAGES];
};

struct Place {
  int tokens, heads, kv_heads, kv_head, sequence;
  // Columns of qkv.
  template <int D> __device__ int keys() const { return (heads + kv_head) * D; }
  template <int D> __device__ int values() const { return (heads + kv_heads + kv_head) * D; }
  template <int D> __device__ int64_t row() const { return (int64_t)(heads + 2 * kv_heads) * D; }
};

// 64 rows of a head, the first of which is `row` of sequence `z`; its first element is column `x`.
template <int D>
__device__ __forceinline__ void fetch(bf16* to, const void* map, uint64_t* full, int x, int row,
                                      int z) {
#pragma unroll
  for (int part = 0; part < D / 64; part++) {
    fetch_box(to + part * BOX, map, full, x + 64 * part, row, z);
  }
}

// What is summed (64 x 64) continued by rows of `a` times rows of `b`.
template <int D>
__device__ __forceinline__ void along_heads(float (&sums)[32], const bf16* a, const bf16* b) {
  uint64_t left = operand(a, 0), right = operand(b, 0);
#pragma unroll
  for (int d = 0; d < D; d += 16) {
    uint32_t bytes = (d / 64 * BOX + d % 64) * sizeof(bf16);
    wgmma_m64n64k16<0, 0>(sums, further(left, bytes), further(right, bytes));
  }
}

// What is summed (64 x D) continued by `x` (64 x 64) times the rows of `b`.
template <int D>
__device__ __forceinline__ void over_rows(float (&sums)[D / 2], const uint32_t (&x)[4][4],
                                          const bf16* b) {
  uint64_t first = operand(b, BOX * sizeof(bf16));
#pragma unroll
  for (int j = 0; j < ROWS / 16; j++) {
    uint64_t rows = further(first, j * 16 * 64 * sizeof(bf16));
    if constexpr (D == 128) wgmma_m64n128k16<1>(sums, x[j], rows);
    else wgmma_m64n64k16<1>(sums, x[j], rows);
  }
}

// Begins the scores and dp, which are zero, of 64 rows of the block's own (`own` and the tile two
// on) with those of a stage. Two groups of products: the scores are there when one is left.
template <int D>
__device__ __forceinline__ void begin_scores(float (&s)[32], float (&dp)[32], const bf16* own,
                                             const bf16* met) {
  along_heads<D>(s, own, met);
  wgmma_commit();
  along_heads<D>(dp, own + 2 * TILE<D>, met + TILE<D>);
  wgmma_commit();
}

// Zeros where products will be summed; they are there before the products begin.
__device__ __forceinline__ void clear(float (&sums)[32]) {
#pragma unroll
  for (int x = 0; x < 32; x++) sums[x] = 0.0f;
  settle(sums);
}

// 64 x 64 values as left factors of four products.
__device__ __forceinline__ void as_left(uint32_t (&a)[4][4], const float (&x)[32]) {
#pragma unroll
  for (int j = 0; j < 4; j++) {
#pragma unroll
    for (int i = 0; i < 4; i++) a[j][i] = pack(x[8 * j + 2 * i], x[8 * j + 2 * i + 1]);
  }
}

// Memory of a block: four tiles of its own, then the stages.
template <int D> __device__ __forceinline__ bf16* own_tiles() {
  DYNAMIC_SHARED(unsigned char, memory);
  // Swizzled boxes begin at multiples of 1,024 bytes.
  uintptr_t first = (reinterpret_cast<uintptr_t>(memory) + 1023) / 1024 * 1024;
  return reinterpret_cast<bf16*>(first);
}

// `arrivals`: of those that fill a stage. Warps empty it.
__device__ __forceinline__ void make_barriers(Barriers& barriers, const char* maps, int arrivals) {
  if (threadIdx.x == 0) {
    acquire_map(maps);
    acquire_map(maps + 128);
    barrier_init(&barriers.own, 1);
    for (int i = 0; i < STAGES; i++) {
      barrier_init(&barriers.full[i], arrivals);
      barrier_init(&barriers.empty[i], 8);
    }
    barriers_made();
  }
  __syncthreads();
}

// The four tiles of a block's own: 128 rows from `row` on, of (map a, column xa), then of (b, xb).
template <int D>
__device__ __forceinline__ void fetch_own(bf16* own, Barriers& barriers, const void* a, int xa,
                                          const void* b, int xb, int row, int z) {
  barrier_expect(&barriers.own, 4 * TILE<D> * sizeof(bf16));
#pragma unroll
  for (int half = 0; half < 2; half++) {
    fetch<D>(own + half * TILE<D>, a, &barriers.own, xa, row + half * ROWS, z);
    fetch<D>(own + (2 + half) * TILE<D>, b, &barriers.own, xb, row + half * ROWS, z);
  }
}

// Stage `step` of the stream, when its last readers have left.
__device__ __forceinline__ int free_stage(Barriers& barriers, int step) {
  int i = step % STAGES, turn = step / STAGES;
  if (turn > 0) barrier_wait(&barriers.empty[i], (turn - 1) & 1);
  return i;
}

// Numbers of a stage's queries.
struct Lines {
  float lse[ROWS], delta[ROWS];
};

template <int D>
__device__ __forceinline__ void feed_keys(bf16* own, Barriers& barriers, const char* maps,
                                          const Place& at, int k0) {
  const char *qkv = maps, *dout = maps + 128;
  fetch_own<D>(own, barriers, qkv, at.keys<D>(), qkv, at.values<D>(), k0, at.sequence);
  int group = at.heads / at.kv_heads, last = (at.tokens - 1) / ROWS, step = 0;
  for (int head = at.kv_head * group; head < (at.kv_head + 1) * group; head++) {
#pragma unroll 1
    for (int tile = last; tile >= k0 / ROWS; tile--) {
      int i = free_stage(barriers, step++);
      bf16* met = own + (4 + 2 * i) * TILE<D>;
      barrier_expect(&barriers.full[i], 2 * TILE<D> * sizeof(bf16));
      fetch<D>(met, qkv, &barriers.full[i], head * D, tile * ROWS, at.sequence);
      fetch<D>(met + TILE<D>, dout, &barriers.full[i], head * D, tile * ROWS, at.sequence);
    }
  }
}

// Two warps, a query a lane; `lse` and `deltas` are those of the group's first head.
__device__ __forceinline__ void feed_lines(Lines* lines, Barriers& barriers, const float* lse,
                                           const float* deltas, const Place& at, int k0) {
  int last = (at.tokens - 1) / ROWS * ROWS, step = 0, lane = threadIdx.x % ROWS;
  for (int head = at.heads / at.kv_heads; head > 0; head--) {
#pragma unroll 1
    for (int q0 = last; q0 >= k0; q0 -= ROWS) {
      bool there = q0 + lane < at.tokens;
      float l = there ? lse[q0 + lane] : 0.0f, d = there ? deltas[q0 + lane] : 0.0f;
      int i = free_stage(barriers, step++);
      lines[i].lse[lane] = l;
      lines[i].delta[lane] = d;
      barrier_arrive(&barriers.full[i]);
    }
    lse += at.tokens;
    deltas += at.tokens;
  }
}

template <int D>
__device__ __forceinline__ void keys(bf16* dqkv, const float* lse, const float* deltas,
                                     const char* maps, Place at, float c, float scale) {
  __shared__ Barriers barriers;
  __shared__ Lines lines[STAGES];
  bf16* own = own_tiles<D>();
  // The first keys meet the most queries: they begin.
  int k0 = blockIdx.z * 2 * ROWS, warp_group = warp_group_index(), warp = threadIdx.x / 32 % 4;
  make_barriers(barriers, maps, 1 + ROWS);
  if (warp_group == 0) {
    give_registers<24>();
    int64_t line = (int64_t)at.sequence * at.heads + at.kv_head * (at.heads / at.kv_heads);
    line *= at.tokens;
    if (threadIdx.x == 0) feed_keys<D>(own, barriers, maps, at, k0);
    else if (warp >= 2) feed_lines(lines, barriers, lse + line, deltas + line, at, k0);
    return;
  }

  take_registers<240>();
  int half = warp_group - 1, lane = threadIdx.x % 32, first = k0 + half * ROWS;
  int key[2] = {first + warp * 16 + lane / 4, first + warp * 16 + lane / 4 + 8};
  int last = (at.tokens - 1) / ROWS, tile = last, step = 0;
  int steps = at.heads / at.kv_heads * (last - k0 / ROWS + 1);
  float dk[D / 2] = {}, dv[D / 2] = {}, s[32] = {}, dp[32] = {};
  uint32_t p[4][4], ds[4][4];
  const bf16 *mine = own + half * TILE<D>, *met = own + 4 * TILE<D>;
  barrier_wait(&barriers.own, 0);
  barrier_wait(&barriers.full[0], 0);
  settle(dk);
  settle(dv);
  settle(s);
  wgmma_begin();
  along_heads<D>(s, mine, met);
  wgmma_commit();
  for (;; step++) {
    wgmma_wait<0>();
    settle(s);
    clear(dp);
    wgmma_begin();
    along_heads<D>(dp, mine + 2 * TILE<D>, met + TILE<D>);
    wgmma_commit();
    // dv and dk of the step before are summed, and all lanes have read its numbers.
    __syncwarp();
    if (step > 0 && lane == 0) barrier_arrive(&barriers.empty[(step - 1) % STAGES]);

    // Sum 4 j + 2 r + e is that of key[r] and query 8 j + 2 (lane mod 4) + e of the tile.
    int query = tile * ROWS + lane % 4 * 2;
    bool cut = tile * ROWS < first + ROWS - 1 || (tile + 1) * ROWS > at.tokens;
    auto mask = [&](float(&sums)[32]) {
#pragma unroll
      for (int x = 0; x < 32; x++) {
        int q = query + x / 4 * 8 + x % 2;
        if (key[x / 2 % 2] > q || q >= at.tokens) sums[x] = 0.0f;
      }
    };
    const float2* line = reinterpret_cast<const float2*>(lines[step % STAGES].lse) + lane % 4;
#pragma unroll
    for (int j = 0; j < 8; j++) {
      float2 l = line[4 * j];
#pragma unroll
      for (int x = 4 * j; x < 4 * j + 4; x++) {
        s[x] = exact_exp2(fmaf(s[x], c, x % 2 == 0 ? -l.x : -l.y));
      }
    }
    if (cut) mask(s);
    wgmma_wait<0>();
    settle(dp);
    settle(s);
    line = reinterpret_cast<const float2*>(lines[step % STAGES].delta) + lane % 4;
    as_left(p, s);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      float2 d = line[4 * j];
#pragma unroll
      for (int x = 4 * j; x < 4 * j + 4; x++) dp[x] = s[x] * (dp[x] - (x % 2 == 0 ? d.x : d.y));
    }
    if (cut) mask(dp);
    as_left(ds, dp);
    if (step + 1 == steps) break;

    clear(s);
    const bf16* now = met;
    int next = (step + 1) % STAGES;
    met = own + (4 + 2 * next) * TILE<D>;
    tile = tile > k0 / ROWS ? tile - 1 : last;
    barrier_wait(&barriers.full[next], (step + 1) / STAGES & 1);
    wgmma_begin();
    over_rows<D>(dv, p, now + TILE<D>);
    over_rows<D>(dk, ds, now);
    along_heads<D>(s, mine, met);
    wgmma_commit();
  }
  wgmma_begin();
  over_rows<D>(dv, p, met + TILE<D>);
  over_rows<D>(dk, ds, met);
  wgmma_commit();
  wgmma_wait<0>();
  settle(dk);
  settle(dv);

#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (key[r] >= at.tokens) continue;
    int64_t row = (int64_t)at.sequence * at.tokens + key[r];
    bf16* to = dqkv + row * at.row<D>() + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      int x = 4 * j + 2 * r;
      *reinterpret_cast<uint32_t*>(to + at.keys<D>() + 8 * j) =
          pack(dk[x] * scale, dk[x + 1] * scale);
      *reinterpret_cast<uint32_t*>(to + at.values<D>() + 8 * j) = pack(dv[x], dv[x + 1]);
    }
  }
}

template <int D>
__device__ __forceinline__ void feed_queries(bf16* own, Barriers& barriers, const char* maps,
                                             const Place& at, int head, int t0) {
  const char *qkv = maps, *dout = maps + 128;
  fetch_own<D>(own, barriers, qkv, head * D, dout, head * D, t0, at.sequence);
  for (int step = 0; step < t0 / ROWS + 2; step++) {
    int i = free_stage(barriers, step);
    bf16* met = own + (4 + 2 * i) * TILE<D>;
    barrier_expect(&barriers.full[i], 2 * TILE<D> * sizeof(bf16));
    fetch<D>(met, qkv, &barriers.full[i], at.keys<D>(), step * ROWS, at.sequence);
    fetch<D>(met + TILE<D>, qkv, &barriers.full[i], at.values<D>(), step * ROWS, at.sequence);
  }
}

template <int D>
__device__ __forceinline__ void queries(bf16* dqkv, const float* lse, const float* deltas,
                                        const char* maps, Place at, int head, float c,
                                        float scale) {
  __shared__ Barriers barriers;
  bf16* own = own_tiles<D>();
  // The last queries meet the most keys: they begin.
  int t0 = (gridDim.z - 1 - blockIdx.z) * 2 * ROWS, warp_group = warp_group_index();
  make_barriers(barriers, maps, 1);
  if (warp_group == 0) {
    give_registers<24>();
    if (threadIdx.x == 0) feed_queries<D>(own, barriers, maps, at, head, t0);
    return;
  }

  take_registers<240>();
  int half = warp_group - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  int first = t0 + half * ROWS, t[2];
  float row_lse[2], row_delta[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    t[r] = first + warp * 16 + lane / 4 + 8 * r;
    int64_t line = ((int64_t)at.sequence * at.heads + head) * at.tokens + t[r];
    row_lse[r] = t[r] < at.tokens ? lse[line] : 0.0f;
    row_delta[r] = t[r] < at.tokens ? deltas[line] : 0.0f;
  }
  // -0, to which a term is added without change: the sum begins with its first term.
  float dq[D / 2], part[D / 2], s[32] = {}, dp[32] = {};
#pragma unroll
  for (int x = 0; x < D / 2; x++) dq[x] = part[x] = -0.0f;
  uint32_t ds[4][4];
  const bf16 *mine = own + half * TILE<D>, *met = own + 4 * TILE<D>;
  int steps = t0 / ROWS + 2, step = 0;
  barrier_wait(&barriers.own, 0);
  barrier_wait(&barriers.full[0], 0);
  settle(dq);
  settle(part);
  settle(s);
  settle(dp);
  wgmma_begin();
  begin_scores<D>(s, dp, mine, met);
  for (;; step++) {
    wgmma_wait<1>();
    settle(s);
    // The part of the step before is summed.
    if (step > 0 && lane == 0) barrier_arrive(&barriers.empty[(step - 1) % STAGES]);
    // Sum 4 j + 2 r + e is that of query t[r] and key 8 j + 2 (lane mod 4) + e of the step.
#pragma unroll
    for (int x = 0; x < 32; x++) s[x] = exact_exp2(fmaf(s[x], c, -row_lse[x / 2 % 2]));
    settle(s);
    wgmma_wait<0>();
    settle(dp);
    settle(part);
    // The part of a tile of 128 keys is one term of dq.
    if (step % 2 == 0) {
#pragma unroll
      for (int x = 0; x < D / 2; x++) {
        dq[x] += part[x];
        part[x] = 0.0f;
      }
    }
#pragma unroll
    for (int x = 0; x < 32; x++) dp[x] = s[x] * (dp[x] - row_delta[x / 2 % 2]);
    if ((step + 1) * ROWS > first + 1) {
#pragma unroll
      for (int x = 0; x < 32; x++) {
        if (step * ROWS + lane % 4 * 2 + x / 4 * 8 + x % 2 > t[x / 2 % 2]) dp[x] = 0.0f;
      }
    }
    as_left(ds, dp);
    if (step + 1 == steps) break;

    clear(s);
    clear(dp);
    const bf16* now = met;
    int next = (step + 1) % STAGES;
    met = own + (4 + 2 * next) * TILE<D>;
    barrier_wait(&barriers.full[next], (step + 1) / STAGES & 1);
    wgmma_begin();
    over_rows<D>(part, ds, now);
    wgmma_commit();
    begin_scores<D>(s, dp, mine, met);
  }
  wgmma_begin();
  over_rows<D>(part, ds, met);
  wgmma_commit();
  wgmma_wait<0>();
  settle(part);

#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (t[r] >= at.tokens) continue;
    int64_t row = (int64_t)at.sequence * at.tokens + t[r];
    bf16* to = dqkv + row * at.row<D>() + (int64_t)head * D + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < D / 8; j++) {
      int x = 4 * j + 2 * r;
      *reinterpret_cast<uint32_t*>(to + 8 * j) =
          pack((dq[x] + part[x]) * scale, (dq[x + 1] + part[x + 1]) * scale);
    }
  }
}

#define KEYS_BODY(D)                                                             \
  Place at{tokens, heads, kv_heads, (int)blockIdx.x, (int)blockIdx.y};           \
  keys<D>(dqkv, lse, deltas, maps, at, c, scale);
#define QUERIES_BODY(D)                                                          \
  int head = blockIdx.x;                                                         \
  Place at{tokens, heads, kv_heads, head / (heads / kv_heads), (int)blockIdx.y}; \
  queries<D>(dqkv, lse, deltas, maps, at, head, c, scale);
#else
#define KEYS_BODY(D)
#define QUERIES_BODY(D)
#endif

}  // namespace

// `maps`: the tensor maps of qkv and of dout as matrices of `tokens` rows, one per sequence. Grids:
// (key/value heads, sequences, tiles of 128 keys) and (heads, sequences, tiles of 128 queries), so
// that long rows of all heads begin first. Shared: 4 + 2·4 tiles of 64 rows of D, and 1,024 bytes.
#define BACKWARD(D)                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_backward_keys_wgmma_##D(      \
      bf16* dqkv, const float* lse, const float* deltas, const char* maps, int tokens, int heads,  \
      int kv_heads, float c, float scale) {                                                        \
    KEYS_BODY(D)                                                                                   \
  }                                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_backward_queries_wgmma_##D(   \
      bf16* dqkv, const float* lse, const float* deltas, const char* maps, int tokens, int heads,  \
      int kv_heads, float c, float scale) {                                                        \
    QUERIES_BODY(D)                                                                                \
  }
BACKWARD(64)
BACKWARD(128)
