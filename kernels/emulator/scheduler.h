// The block that runs: its fibers, and how they wait. Inside the emulator only.
#pragma once
#include <setjmp.h>

#include <cstdint>
#include <string>
#include <vector>

#include "cuda_cpu.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

// The sanitizers are told of every switch of fibers. This file's functions are themselves compiled
// without ThreadSanitizer: only barriers, __syncwarp and atomics order threads for it.
#ifdef CUDA_CPU_TSAN
extern "C" {
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void* __tsan_get_current_fiber();
void __tsan_read_range(void*, unsigned long bytes);
void __tsan_write_range(void*, unsigned long bytes);
void __tsan_acquire(void*);
void __tsan_release(void*);
}
#define IF_TSAN(code) code
#else
#define IF_TSAN(code)
#endif
#if defined(__SANITIZE_ADDRESS__)
extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t bytes);
void __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* bytes);
void __asan_unpoison_memory_region(const volatile void*, size_t bytes);
}
#define IF_ASAN(code) code
#else
#define IF_ASAN(code)
#endif

namespace cuda_cpu {

constexpr int WARP = 32;
constexpr int MAX_THREADS = 1024;
constexpr int BARRIERS = 16;
// What sm_90 offers a block.
constexpr unsigned MAX_SHARED_BYTES = 227 * 1024;

enum class State { Ready, AtBarrier, AtPhase, InWarp, Ended };

struct Copy {
  char* to;
  const char* from;
  int bytes, valid_bytes, group;
};

// A thread's share of a product of its warp group.
struct Product {
  float* d;
  int columns, thread;
  bool in_registers;
  // The left factor of this thread's two rows, if it came in registers.
  uint16_t rows[2][16];
  uint64_t a;
  bool a_across;
  uint64_t b;
  bool b_across;
  int group;
};

struct Fiber {
  void* stack_pointer;
  char* stack;
  State state;
  uint3 index;
  int number;
  // What it waits for.
  const char* operation;
  Place place;
  uint32_t mask;
  int barrier_id, barrier_count;
  void* data;
  // cp.async not yet waited for.
  std::vector<Copy> copies;
  // Products not yet waited for.
  std::vector<Product> products;
  // Groups of the one or the other begun so far.
  int group;
  int warp_syncs;
  void *fake_stack, *tsan;
};

// Threads of the block that runs, and the one that does.
extern Fiber fibers[MAX_THREADS];
extern Fiber* current;
extern int thread_count;

// Gives the processor to the scheduler, until this fiber's state is Ready.
void wait();
// Ends the launch with a complaint about the block that runs.
[[noreturn]] void fail(const std::string& what);
// Waits until all lanes of `mask` are at this operation; the last runs `operation(data of each lane)`.
void together(Place, const char* name, uint32_t mask, void* data, void (*operation)(void** lanes));

// Whether a barrier has left the phase that somebody waits for.
bool phase_is_over(void* barrier, uint32_t phase);
// Lets the first box under way land; false if there is none.
bool land_box();
void forget_boxes();

struct Kernel {
  Launcher launcher;
  std::string signature;
};
// Null where there is no such kernel.
const Kernel* find_kernel(const std::string& name);

struct Grid {
  dim3 blocks, threads;
  unsigned shared_bytes;
};
enum class Order { Ascending, Descending, Random };
// Runs a kernel; what went wrong, or an empty string.
std::string run(const Kernel&, const Grid&, void** parameters, Order, unsigned seed);

// What tensor cores compute, docs/ARITHMETIC.md 16.2.
struct TensorCore {
  int group, fraction_bits;
};
constexpr TensorCore HOPPER{16, 25}, AMPERE{8, 24};
extern TensorCore tensor_core;
// c plus the products of 16 pairs, in ascending groups.
float tensor_core_sum(TensorCore, float c, const uint16_t* a, const uint16_t* b);

}  // namespace cuda_cpu
