// Matrix products of the `tc` profile on tensor cores, by mma.sync; docs/ARITHMETIC.md, 16.4.
// Launcher: src/backend/cuda/matmul/tc.rs. The twin that runs everywhere, the CPU emulator included.
//
//   forward           out(M,N)  = bf(A(M,K) . B(N,K)^T)       both operands run along k
//   backward_input    out(M,N)  = bf(A(M,K) . B(K,N))
//   backward_weight   out(M,N)  = [out +] A(K,M)^T . B(K,N)   f32
//
// Every output is one chain of tensor-core sums over k ascending: a thread block owns a tile of
// outputs for all of k, and tiles of k only feed it.

#include "exact.cuh"
#include "tensor_core.cuh"

namespace {

constexpr int TILE_M = 128, TILE_N = 128, TILE_K = 32;
constexpr int STAGES = 3;
constexpr int THREADS = 256;
// Eight warps, two by four; each owns 64 x 32 outputs.
constexpr int WARP_M = 64, WARP_N = 32;
constexpr int TILE_ELEMENTS = 128 * TILE_K;
// Row tiles that neighbouring blocks share before they move on in N: what they read stays in L2.
constexpr int GROUP_M = 8;

// How an operand lies in memory: along k, or across it (rows of k).
enum class Layout { Along, Across };

// Offset of a chunk of 8 elements in a tile, swizzled so that the eight rows of an ldmatrix are
// in different banks. Along: (128 rows, 4 chunks of k). Across: (32 rows of k, 16 chunks).
template <Layout L> __device__ __forceinline__ int chunk_offset(int row, int chunk) {
  return L == Layout::Along ? row * TILE_K + ((chunk ^ (row >> 1 & 3)) * 8)
                            : row * 128 + ((chunk ^ (row & 7)) * 8);
}

// Fetches the tile at (outer0, k0) of an operand with `outer` rows or columns of outputs.
// All threads share its 512 chunks. Whatever lies outside is zero.
template <Layout L, bool ALIGNED>
__device__ __forceinline__ void fetch(bf16* tile, const bf16* from, int outer, int k, int outer0,
                                      int k0) {
  for (int c = threadIdx.x; c < TILE_ELEMENTS / 8; c += THREADS) {
    int row = L == Layout::Along ? c / 4 : c / 16, chunk = L == Layout::Along ? c % 4 : c % 16;
    int first_outer = outer0 + (L == Layout::Along ? row : chunk * 8);
    int first_k = k0 + (L == Layout::Along ? chunk * 8 : row);
    bf16* to = tile + chunk_offset<L>(row, chunk);
    bool inside = first_outer < outer && first_k < k;
    int64_t at = L == Layout::Along ? (int64_t)first_outer * k + first_k
                                    : (int64_t)first_k * outer + first_outer;
    if (ALIGNED) {
      cp_async_16(to, from + (inside ? at : 0), inside);
    } else {
      int room = inside ? (L == Layout::Along ? k - first_k : outer - first_outer) : 0;
      for (int i = 0; i < 8; i++) to[i] = i < room ? from[at + i] : bf16_zero();
    }
  }
}

// The m16 x k16 fragment of A at (row, k) of a tile.
template <Layout L>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const bf16* tile, int row, int k) {
  int lane = threadIdx.x % 32, matrix = lane / 8;
  if (L == Layout::Along) {
    ldmatrix_x4(a, tile + chunk_offset<L>(row + lane % 8 + (matrix & 1) * 8, k / 8 + matrix / 2));
  } else {
    ldmatrix_x4_trans(a, tile + chunk_offset<L>(k + lane % 8 + matrix / 2 * 8,
                                                row / 8 + (matrix & 1)));
  }
}

// Two n8 x k16 fragments of B, at (column, k) and (column + 8, k) of a tile.
template <Layout L>
__device__ __forceinline__ void load_b(uint32_t (&b)[4], const bf16* tile, int column, int k) {
  int lane = threadIdx.x % 32, matrix = lane / 8;
  if (L == Layout::Along) {
    ldmatrix_x4(b, tile + chunk_offset<L>(column + lane % 8 + matrix / 2 * 8,
                                          k / 8 + (matrix & 1)));
  } else {
    ldmatrix_x4_trans(b, tile + chunk_offset<L>(k + lane % 8 + (matrix & 1) * 8,
                                                column / 8 + matrix / 2));
  }
}

__device__ __forceinline__ void put(bf16* out, float x, bool) { *out = to_bf16(x); }
__device__ __forceinline__ void put(float* out, float x, bool existing) {
  *out = existing ? *out + x : x;
}

// One block per tile of outputs.
template <Layout LA, Layout LB, bool ALIGNED, class Out>
__device__ __forceinline__ void product(Out* out, const bf16* a, const bf16* b, int m, int n, int k,
                                        bool existing) {
  DYNAMIC_SHARED(bf16, shared);
  int tiles_m = (m + TILE_M - 1) / TILE_M, tiles_n = (n + TILE_N - 1) / TILE_N;
  int group = blockIdx.x / (GROUP_M * tiles_n), in_group = blockIdx.x % (GROUP_M * tiles_n);
  int group_m = min(GROUP_M, tiles_m - group * GROUP_M);
  int m0 = (group * GROUP_M + in_group % group_m) * TILE_M, n0 = in_group / group_m * TILE_N;
  int warp = threadIdx.x / 32, warp_m = warp / 4 * WARP_M, warp_n = warp % 4 * WARP_N;

  auto stage = [&](int tile) { return shared + tile % STAGES * 2 * TILE_ELEMENTS; };
  auto fetch_stage = [&](int tile) {
    fetch<LA, ALIGNED>(stage(tile), a, m, k, m0, tile * TILE_K);
    fetch<LB, ALIGNED>(stage(tile) + TILE_ELEMENTS, b, n, k, n0, tile * TILE_K);
  };
  int tiles_k = (k + TILE_K - 1) / TILE_K;
  for (int tile = 0; tile < STAGES - 1; tile++) {
    if (tile < tiles_k) fetch_stage(tile);
    cp_async_commit();
  }
  float sums[4][4][4] = {};
  for (int tile = 0; tile < tiles_k; tile++) {
    cp_async_wait<STAGES - 2>();
    // Everybody's part of this tile has come, and everybody has left the tile before it.
    __syncthreads();
    if (tile + STAGES - 1 < tiles_k) fetch_stage(tile + STAGES - 1);
    cp_async_commit();
    const bf16 *tile_a = stage(tile), *tile_b = tile_a + TILE_ELEMENTS;
#pragma unroll
    for (int step = 0; step < TILE_K; step += 16) {
      // Steps past k are of zeros in both operands, which leave every sum as it is.
      if (tile * TILE_K + step >= k) break;
      uint32_t fa[4][4], fb[2][4];
#pragma unroll
      for (int i = 0; i < 4; i++) load_a<LA>(fa[i], tile_a, warp_m + 16 * i, step);
#pragma unroll
      for (int j = 0; j < 2; j++) load_b<LB>(fb[j], tile_b, warp_n + 16 * j, step);
#pragma unroll
      for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
          mma_m16n8k16(sums[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
  cp_async_wait<0>();
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < 4; i++) {
#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int row = m0 + warp_m + 16 * i + lane / 4 + e / 2 * 8;
        int column = n0 + warp_n + 8 * j + lane % 4 * 2 + e % 2;
        if (row < m && column < n) put(out + (int64_t)row * n + column, sums[i][j][e], existing);
      }
    }
  }
}

}  // namespace

// `_any` takes rows of any length; the other needs rows of a multiple of 8 elements (16 bytes).
#define TC_PRODUCT(NAME, OUT, LA, LB)                                                             \
  extern "C" __global__ void __launch_bounds__(THREADS)                                           \
      NAME##_tc(OUT* out, const bf16* a, const bf16* b, int m, int n, int k, int existing) {      \
    product<Layout::LA, Layout::LB, true>(out, a, b, m, n, k, existing != 0);                     \
  }                                                                                               \
  extern "C" __global__ void __launch_bounds__(THREADS)                                           \
      NAME##_tc_any(OUT* out, const bf16* a, const bf16* b, int m, int n, int k, int existing) {  \
    product<Layout::LA, Layout::LB, false>(out, a, b, m, n, k, existing != 0);                    \
  }

TC_PRODUCT(matmul_forward, bf16, Along, Along)
TC_PRODUCT(matmul_backward_input, bf16, Along, Across)
TC_PRODUCT(matmul_backward_weight, float, Across, Across)
