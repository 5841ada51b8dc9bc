// Fill and add, element by element. Contract: src/ops/elementwise.rs; launcher:
// src/backend/cuda/elementwise.rs. Copies are the driver's.
#include "common.cuh"

// One thread for each piece of 16 bytes.
template <typename T>
__device__ __forceinline__ void fill(T* out, float value, uint64_t count) {
  const uint64_t i = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) * PIECE<T>;
  if (i >= count) return;
  Piece<PIECE<T>> piece;
#pragma unroll
  for (unsigned k = 0; k < PIECE<T>; k++) piece.at[k] = value;
  const uint64_t rest = count - i;
  store(out + i, piece, rest < PIECE<T> ? rest : PIECE<T>, rows_aligned(out, PIECE<T>));
}

// out = out + inp. One thread for each piece of 16 bytes.
template <typename T>
__device__ __forceinline__ void add(T* out, const T* inp, uint64_t count) {
  const uint64_t i = (uint64_t(blockIdx.x) * blockDim.x + threadIdx.x) * PIECE<T>;
  if (i >= count) return;
  const uint64_t left = count - i;
  const uint32_t rest = left < PIECE<T> ? left : PIECE<T>;
  const bool aligned = rows_aligned(out, PIECE<T>) && rows_aligned(inp, PIECE<T>);
  Piece<PIECE<T>> sum = load(out + i, rest, aligned);
  const Piece<PIECE<T>> term = load(inp + i, rest, aligned);
#pragma unroll
  for (unsigned k = 0; k < PIECE<T>; k++) sum.at[k] = __fadd_rn(sum.at[k], term.at[k]);
  store(out + i, sum, rest, aligned);
}

extern "C" __global__ void elementwise_fill_f32(float* out, float value, uint64_t count) {
  fill(out, value, count);
}

extern "C" __global__ void elementwise_fill_bf16(bf16* out, float value, uint64_t count) {
  fill(out, value, count);
}

extern "C" __global__ void elementwise_add_f32(float* out, const float* inp, uint64_t count) {
  add(out, inp, count);
}

extern "C" __global__ void elementwise_add_bf16(bf16* out, const bf16* inp, uint64_t count) {
  add(out, inp, count);
}
