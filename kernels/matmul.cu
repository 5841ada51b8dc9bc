// Matrix products of the profiles `f32` and `bf16` by plain FMAs: docs/ARITHMETIC.md, section 4.
// Launcher: src/backend/cuda/matmul.rs. For checking on a GPU; tensor cores have other bits.
//
// A block of 16 x 16 threads owns 64 x 64 outputs for all of k, so every output is one chain.

#include "chains.cuh"

namespace {

constexpr int TILE = 64, TILE_K = 16, SIDE = 16, PER_THREAD = TILE / SIDE;

// How an operand lies in memory: along k, or across it (rows of k).
enum class Layout { Along, Across };

template <Profile P, Layout L>
__device__ __forceinline__ void fetch(float (&tile)[TILE_K][TILE + 1], const float* from, int outer,
                                      int k, int outer0, int k0) {
  int thread = threadIdx.y * SIDE + threadIdx.x;
  for (int i = thread; i < TILE * TILE_K; i += SIDE * SIDE) {
    int o = L == Layout::Along ? i / TILE_K : i % TILE;
    int kk = L == Layout::Along ? i % TILE_K : i / TILE;
    bool inside = outer0 + o < outer && k0 + kk < k;
    int64_t at = L == Layout::Along ? (int64_t)(outer0 + o) * k + k0 + kk
                                    : (int64_t)(k0 + kk) * outer + outer0 + o;
    tile[kk][o] = inside ? enter<P>(from[at]) : 0.0f;
  }
}

template <Profile P, Layout LA, Layout LB>
__device__ __forceinline__ void product(float* out, const float* a, const float* b, int m, int n,
                                        int k, bool existing) {
  __shared__ float tile_a[TILE_K][TILE + 1], tile_b[TILE_K][TILE + 1];
  int m0 = blockIdx.y * TILE, n0 = blockIdx.x * TILE;
  float sums[PER_THREAD][PER_THREAD];
  auto row = [&](int i) { return m0 + (int)threadIdx.y + SIDE * i; };
  auto column = [&](int j) { return n0 + (int)threadIdx.x + SIDE * j; };
  for (int i = 0; i < PER_THREAD; i++) {
    for (int j = 0; j < PER_THREAD; j++) {
      bool there = existing && row(i) < m && column(j) < n;
      sums[i][j] = there ? out[(int64_t)row(i) * n + column(j)] : 0.0f;
    }
  }
  int length = chain_length<P>(k);
  for (int k0 = 0; k0 < length; k0 += TILE_K) {
    fetch<P, LA>(tile_a, a, m, k, m0, k0);
    fetch<P, LB>(tile_b, b, n, k, n0, k0);
    __syncthreads();
    int end = min(TILE_K, length - k0);
    for (int kk = 0; kk < end; kk++) {
      int here = in_turn<P>(kk);
      float x[PER_THREAD], y[PER_THREAD];
#pragma unroll
      for (int i = 0; i < PER_THREAD; i++) {
        x[i] = tile_a[here][threadIdx.y + SIDE * i];
        y[i] = tile_b[here][threadIdx.x + SIDE * i];
      }
#pragma unroll
      for (int i = 0; i < PER_THREAD; i++) {
#pragma unroll
        for (int j = 0; j < PER_THREAD; j++) sums[i][j] = step<P>(x[i], y[j], sums[i][j]);
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < PER_THREAD; i++) {
    for (int j = 0; j < PER_THREAD; j++) {
      if (row(i) < m && column(j) < n) out[(int64_t)row(i) * n + column(j)] = sums[i][j];
    }
  }
}

}  // namespace

#define PRODUCT(PASS, LA, LB)                                                                     \
  extern "C" __global__ void __launch_bounds__(SIDE* SIDE)                                        \
      matmul_##PASS##_f32(float* out, const float* a, const float* b, int m, int n, int k,        \
                          int existing) {                                                         \
    product<Profile::F32, Layout::LA, Layout::LB>(out, a, b, m, n, k, existing != 0);             \
  }                                                                                               \
  extern "C" __global__ void __launch_bounds__(SIDE* SIDE)                                        \
      matmul_##PASS##_bf16(float* out, const float* a, const float* b, int m, int n, int k,       \
                           int existing) {                                                        \
    product<Profile::Bf16, Layout::LA, Layout::LB>(out, a, b, m, n, k, existing != 0);            \
  }
PRODUCT(forward, Along, Along)
PRODUCT(backward_input, Along, Across)
PRODUCT(backward_weight, Across, Across)
