// What forward and backward of the `tc` profile's attention share: tiles of heads in shared memory
// and their fragments. Contract: docs/ARITHMETIC.md, 16.7.

#pragma once

#include "tensor_core.cuh"

namespace attention_tc {

// Keys in a tile, and queries in a tile of backward: constants of the contract.
constexpr int KEYS = 128, QUERIES = 64;

// A row of a tile is D elements, in chunks of 8 that are swizzled so that the rows of an ldmatrix
// lie in different banks.
template <int D> __device__ __forceinline__ int chunk_offset(int row, int chunk) {
  int swizzle = D == 32 ? row >> 1 & 3 : row & 7;
  return row * D + (chunk ^ swizzle) * 8;
}

// Fetches ROWS rows of a head, the first of which is `first` of `count`; zeros before and beyond. `from` is
// the head's element 0 of row 0, rows are `stride` elements apart. All threads take part.
template <int D, int ROWS>
__device__ __forceinline__ void fetch(bf16* tile, const bf16* from, int64_t stride, int first,
                                      int count) {
  for (int c = threadIdx.x; c < ROWS * (D / 8); c += blockDim.x) {
    int row = c / (D / 8), chunk = c % (D / 8);
    bool there = first + row >= 0 && first + row < count;
    cp_async_16(tile + chunk_offset<D>(row, chunk),
                from + (there ? (first + row) * stride + chunk * 8 : 0), there);
  }
}

// The m16 x k16 fragment at (row, d) of a tile whose rows are those of the product.
template <int D>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], const bf16* tile, int row, int d) {
  int lane = threadIdx.x % 32, matrix = lane / 8;
  ldmatrix_x4(a, tile + chunk_offset<D>(row + lane % 8 + (matrix & 1) * 8, d / 8 + matrix / 2));
}

// Fragments n8 x k16 at (row, d) and (row + 8, d), where the tile's rows are the columns of the
// product and k runs over d.
template <int D>
__device__ __forceinline__ void load_b(uint32_t (&b)[4], const bf16* tile, int row, int d) {
  int lane = threadIdx.x % 32, matrix = lane / 8;
  ldmatrix_x4(b, tile + chunk_offset<D>(row + lane % 8 + matrix / 2 * 8, d / 8 + (matrix & 1)));
}

// Fragments n8 x k16 at (row, d) and (row, d + 8), where k runs over the tile's rows and the
// columns of the product over d.
template <int D>
__device__ __forceinline__ void load_b_across(uint32_t (&b)[4], const bf16* tile, int row, int d) {
  int lane = threadIdx.x % 32, matrix = lane / 8;
  ldmatrix_x4_trans(b,
                    tile + chunk_offset<D>(row + lane % 8 + (matrix & 1) * 8, d / 8 + matrix / 2));
}

// Two neighbouring tiles of sums (16 x 8 each) as the 16 x 16 left factor of the next product.
__device__ __forceinline__ void as_left(uint32_t (&a)[4], const float (&x)[4],
                                        const float (&y)[4]) {
  a[0] = pack(x[0], x[1]);
  a[1] = pack(x[2], x[3]);
  a[2] = pack(y[0], y[1]);
  a[3] = pack(y[2], y[3]);
}

// Tiles of sums as one array: sum 4 j + i is that of tile j.
template <int N> __device__ __forceinline__ float (&flat(float (&x)[N][4]))[4 * N] {
  return reinterpret_cast<float(&)[4 * N]>(x);
}

// Online softmax of a thread's two rows: the greatest score so far, that times c, and sums of the
// probabilities of even and of odd keys.
struct Softmax {
  float m[2] = {}, mc[2] = {}, l[2][2] = {};

  // Scores of the tile of keys from `key0` on become probabilities, and the sums of values before
  // them are scaled. Sum 4 j + 2 r + e is that of query t[r] and key 8 j + 2 (lane mod 4) + e of
  // the tile; if `masked`, keys after the query take no part.
  template <int N>
  __device__ __forceinline__ void tile(float (&s)[KEYS / 2], float (&o)[N], const int (&t)[2],
                                       int key0, bool masked, float c) {
    const float none = __int_as_float(0xff800000);
    int key = key0 + threadIdx.x % 4 * 2;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float highest = none;
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float& x = s[4 * j + 2 * r + e];
          if (masked && key + 8 * j + e > t[r]) x = none;
          highest = larger(x, highest);
        }
      }
      highest = larger(highest, __shfl_xor_sync(0xffffffffu, highest, 2));
      highest = larger(highest, __shfl_xor_sync(0xffffffffu, highest, 1));
      float before = m[r];
      m[r] = key0 == 0 ? highest : larger(before, highest);
      mc[r] = m[r] * c;
      float sums[2] = {};
#pragma unroll
      for (int j = 0; j < KEYS / 8; j++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
          float& x = s[4 * j + 2 * r + e];
          bool after = masked && key + 8 * j + e > t[r];
          x = after ? 0.0f : exact_exp2(fmaf(x, c, -mc[r]));
          sums[e] += x;
        }
      }
      if (key0 == 0) {
        l[r][0] = sums[0];
        l[r][1] = sums[1];
      } else {
        float alpha = exact_exp2(fmaf(before, c, -mc[r]));
        l[r][0] = fmaf(l[r][0], alpha, sums[0]);
        l[r][1] = fmaf(l[r][1], alpha, sums[1]);
#pragma unroll
        for (int j = 0; j < N / 4; j++) {
          o[4 * j + 2 * r] *= alpha;
          o[4 * j + 2 * r + 1] *= alpha;
        }
      }
    }
  }

  // The sum of all probabilities of row r. All threads of a warp take part.
  __device__ __forceinline__ float sum(int r) const {
    float sums[2];
#pragma unroll
    for (int e = 0; e < 2; e++) {
      sums[e] = l[r][e] + __shfl_xor_sync(0xffffffffu, l[r][e], 2);
      sums[e] += __shfl_xor_sync(0xffffffffu, sums[e], 1);
    }
    return sums[0] + sums[1];
  }
};

// Extents, and where things lie: rows of `qkv` are [H query heads | K key heads | K value heads].
struct Extents {
  int tokens, heads, kv_heads;
  template <int D> __device__ int64_t row() const { return (int64_t)(heads + 2 * kv_heads) * D; }
};

}  // namespace attention_tc
