// Rows of a table, and their gradient in a fixed order, with no atomics: docs/ARITHMETIC.md,
// sections 10 and 16.6. Launcher: src/backend/cuda/embedding.rs.

#include "exact.cuh"

namespace {

constexpr int THREADS = 256;

// Positions that a block collects before it adds their rows.
constexpr int COLLECTED = 1024;

// One block per row of `out`. A token that is not there gives NaN, which ends the step.
template <class T>
__device__ __forceinline__ void forward(T* out, const uint32_t* tokens, const T* table,
                                        uint32_t vocab, int columns) {
  int64_t n = blockIdx.x;
  bool there = tokens[n] < vocab;
  const T* from = table + (there ? (int64_t)tokens[n] * columns : 0);
  T none = round_to<T>(__int_as_float(0x7fffffff));
  for (int c = threadIdx.x; c < columns; c += blockDim.x) {
    out[n * columns + c] = there ? from[c] : none;
  }
}

// A block owns the tokens that are its number modulo the number of blocks. It looks through all
// positions, collects those of its tokens in order, sorts them by token (stably), and adds the
// rows of each token in order: each column by one thread, a run of equal tokens in a register.
template <class T>
__device__ __forceinline__ void backward(float* dtable, const uint32_t* tokens, const T* dout,
                                         uint32_t vocab, int rows, int columns) {
  // Token in the upper half, place of collection in the lower: sorting these is stable.
  __shared__ unsigned long long keys[COLLECTED];
  __shared__ int positions[COLLECTED], found[THREADS / 32 + 1];
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int count = 0;
  for (int base = 0; base < rows; base += THREADS) {
    int n = base + threadIdx.x;
    uint32_t token = n < rows ? tokens[n] : 0;
    bool mine = n < rows && token < vocab && token % gridDim.x == blockIdx.x;
    uint32_t ballot = __ballot_sync(0xffffffffu, mine);
    if (lane == 0) found[warp] = __popc(ballot);
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < THREADS / 32; w++) {
      if (w < warp) before += found[w];
      all += found[w];
    }
    if (mine) {
      int at = count + before + __popc(ballot & ((1u << lane) - 1));
      keys[at] = (unsigned long long)token << 32 | at;
      positions[at] = n;
    }
    count += all;
    bool last = base + THREADS >= rows;
    __syncthreads();
    if (!last && count + THREADS <= COLLECTED) continue;

    int size = 32;
    while (size < count) size *= 2;
    for (int i = count + threadIdx.x; i < size; i += THREADS) keys[i] = ~0ull;
    __syncthreads();
    // Bitonic (Batcher 1968).
    for (int length = 2; length <= size; length *= 2) {
      for (int distance = length / 2; distance > 0; distance /= 2) {
        for (int i = threadIdx.x; i < size; i += THREADS) {
          int other = i ^ distance;
          if (other > i && (keys[i] > keys[other]) == ((i & length) == 0)) {
            unsigned long long kept = keys[i];
            keys[i] = keys[other];
            keys[other] = kept;
          }
        }
        __syncthreads();
      }
    }
    for (int c = threadIdx.x; c < columns; c += THREADS) {
      float sum = 0.0f;
      for (int i = 0; i < count; i++) {
        uint32_t here = keys[i] >> 32;
        float* to = dtable + (int64_t)here * columns + c;
        if (i == 0 || keys[i - 1] >> 32 != here) sum = *to;
        sum += widen(dout[(int64_t)positions[(uint32_t)keys[i]] * columns + c]);
        if (i + 1 == count || keys[i + 1] >> 32 != here) *to = sum;
      }
    }
    count = 0;
    __syncthreads();
  }
}

}  // namespace

#define EMBEDDING(T, NAME)                                                                      \
  extern "C" __global__ void embedding_forward_##NAME(                                          \
      T* out, const uint32_t* tokens, const T* table, uint32_t vocab, int columns) {            \
    forward<T>(out, tokens, table, vocab, columns);                                             \
  }                                                                                             \
  extern "C" __global__ void __launch_bounds__(THREADS) embedding_backward_##NAME(              \
      float* dtable, const uint32_t* tokens, const T* dout, uint32_t vocab, int rows,           \
      int columns) {                                                                            \
    backward<T>(dtable, tokens, dout, vocab, rows, columns);                                    \
  }
EMBEDDING(float, f32)
EMBEDDING(bf16, bf16)
