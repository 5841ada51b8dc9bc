// Matrix products of the `tc` profile on Hopper: TMA, warp groups and wgmma; docs/ARITHMETIC.md,
// 16.4. Launcher: src/backend/cuda/matmul.rs. Twin with the same bits: matmul_tc.cu.
//
// A block owns 128 x 256 outputs for all of k. One warp group fetches: its first thread asks the TMA
// for tiles of 64 elements of k and waits for room. Two others compute, 64 x 256 outputs each, as
// two accumulators of 64 x 128. Each output is one chain over k ascending, in steps of 16.

#include "hopper.cuh"

namespace {

constexpr int THREADS = 3 * 128;

#ifdef HOPPER

using namespace hopper;

constexpr int TILE_M = 128, TILE_N = 256, TILE_K = 64, STAGES = 4;
// Boxes of 64 elements of k by 64 rows, or the other way round: 8 KiB either way.
constexpr int BOX = 64 * 64;
constexpr int STAGE_ELEMENTS = (TILE_M + TILE_N) * TILE_K;
// Row tiles that neighbouring blocks share before they move on in N: what they read stays in L2.
constexpr int GROUP_M = 8;

// How an operand lies in memory: along k, or across it (rows of k).
enum class Layout { Along, Across };

// Fetches COUNT boxes, which are consecutive along the outputs.
template <Layout L, int COUNT>
__device__ __forceinline__ void fetch(bf16* to, const void* map, uint64_t* full, int outer0,
                                      int k0) {
#pragma unroll
  for (int box = 0; box < COUNT; box++) {
    int outer = outer0 + 64 * box;
    if (L == Layout::Along) fetch_box(to + box * BOX, map, full, k0, outer, 0);
    else fetch_box(to + box * BOX, map, full, outer, k0, 0);
  }
}

// Bytes from one step of 16 to the next within a box.
template <Layout L> constexpr int STEP_ELEMENTS = L == Layout::Along ? 16 : 16 * 64;

__device__ __forceinline__ void put(bf16* to, float x, float y, bool both, bool) {
  if (both) *reinterpret_cast<uint32_t*>(to) = pack(x, y);
  else *to = to_bf16(x);
}
__device__ __forceinline__ void put(float* to, float x, float y, bool both, bool existing) {
  to[0] = existing ? to[0] + x : x;
  if (both) to[1] = existing ? to[1] + y : y;
}

template <Layout LA, Layout LB, class Out>
__device__ __forceinline__ void product(Out* out, const char* maps, int m, int n, int k,
                                        bool existing) {
  DYNAMIC_SHARED(unsigned char, memory);
  // Swizzled boxes begin at multiples of 1,024 bytes.
  uintptr_t first = (reinterpret_cast<uintptr_t>(memory) + 1023) / 1024 * 1024;
  bf16* stages = reinterpret_cast<bf16*>(first);
  __shared__ uint64_t full[STAGES], empty[STAGES];
  int tiles_m = (m + TILE_M - 1) / TILE_M, tiles_n = (n + TILE_N - 1) / TILE_N;
  int group = blockIdx.x / (GROUP_M * tiles_n), in_group = blockIdx.x % (GROUP_M * tiles_n);
  int group_m = min(GROUP_M, tiles_m - group * GROUP_M);
  int m0 = (group * GROUP_M + in_group % group_m) * TILE_M, n0 = in_group / group_m * TILE_N;
  int tiles_k = (k + TILE_K - 1) / TILE_K, warp_group = threadIdx.x / 128;
  const void *map_a = maps, *map_b = maps + 128;

  if (threadIdx.x == 0) {
    acquire_map(map_a);
    acquire_map(map_b);
    for (int i = 0; i < STAGES; i++) {
      barrier_init(&full[i], 1);
      barrier_init(&empty[i], 2);
    }
    barriers_made();
  }
  __syncthreads();

  if (warp_group == 0) {
    give_registers<40>();
    if (threadIdx.x == 0) {
      for (int tile = 0; tile < tiles_k; tile++) {
        int i = tile % STAGES, turn = tile / STAGES;
        if (turn > 0) barrier_wait(&empty[i], (turn - 1) & 1);
        bf16 *tile_a = stages + i * STAGE_ELEMENTS, *tile_b = tile_a + TILE_M * TILE_K;
        barrier_expect(&full[i], STAGE_ELEMENTS * sizeof(bf16));
        fetch<LA, TILE_M / 64>(tile_a, map_a, &full[i], m0, tile * TILE_K);
        fetch<LB, TILE_N / 64>(tile_b, map_b, &full[i], n0, tile * TILE_K);
      }
    }
    return;
  }

  take_registers<232>();
  int half = warp_group - 1;
  float left[64] = {}, right[64] = {};
  for (int tile = 0; tile < tiles_k; tile++) {
    int i = tile % STAGES;
    barrier_wait(&full[i], tile / STAGES & 1);
    const bf16 *tile_a = stages + i * STAGE_ELEMENTS + half * BOX;
    const bf16 *tile_b = stages + i * STAGE_ELEMENTS + TILE_M * TILE_K;
    wgmma_begin();
    // Steps past k are of zeros in both operands, which leave every sum as it is.
#pragma unroll
    for (int step = 0; step < TILE_K / 16; step++) {
      uint64_t a = operand(tile_a + step * STEP_ELEMENTS<LA>, 0);
      const bf16* b = tile_b + step * STEP_ELEMENTS<LB>;
      constexpr int TA = LA == Layout::Across, TB = LB == Layout::Across;
      wgmma_m64n128k16<TA, TB>(left, a, operand(b, BOX * sizeof(bf16)));
      wgmma_m64n128k16<TA, TB>(right, a, operand(b + 2 * BOX, BOX * sizeof(bf16)));
    }
    wgmma_commit();
    // The tile before is done with.
    wgmma_wait<1>();
    if (tile > 0 && threadIdx.x % 128 == 0) barrier_arrive(&empty[(tile - 1) % STAGES]);
  }
  wgmma_wait<0>();

  int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  bool pairs = n % 2 == 0;
#pragma unroll
  for (int side = 0; side < 2; side++) {
    const float(&sums)[64] = side == 0 ? left : right;
#pragma unroll
    for (int j = 0; j < 16; j++) {
#pragma unroll
      for (int r = 0; r < 2; r++) {
        int row = m0 + half * 64 + warp * 16 + lane / 4 + 8 * r;
        int column = n0 + side * 128 + 8 * j + lane % 4 * 2;
        if (row >= m || column >= n) continue;
        Out* to = out + (int64_t)row * n + column;
        float x = sums[4 * j + 2 * r], y = sums[4 * j + 2 * r + 1];
        if (pairs || column + 1 >= n) {
          put(to, x, y, column + 1 < n, existing);
        } else {
          put(to, x, y, false, existing);
          put(to + 1, y, y, false, existing);
        }
      }
    }
  }
}

#define BODY(LA, LB) product<Layout::LA, Layout::LB>(out, maps, m, n, k, existing != 0);
#else
#define BODY(LA, LB)
#endif

}  // namespace

// `maps`: two tensor maps of 128 bytes each, of A and B as they lie in memory, with boxes of 64 by
// 64 elements swizzled by 128 bytes. Shared: the stages and 1,024 bytes.
#define WGMMA_PRODUCT(NAME, OUT, LA, LB)                                                         \
  extern "C" __global__ void __launch_bounds__(THREADS, 1)                                       \
      NAME##_wgmma(OUT* out, const char* maps, int m, int n, int k, int existing) {              \
    BODY(LA, LB)                                                                                 \
  }
WGMMA_PRODUCT(matmul_forward, bf16, Along, Along)
WGMMA_PRODUCT(matmul_backward_input, bf16, Along, Across)
WGMMA_PRODUCT(matmul_backward_weight, float, Across, Across)
