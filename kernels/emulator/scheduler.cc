// Threads of a block as fibers, blocks one after another. Compile without -fsanitize=thread.
#include "scheduler.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <map>

// Saves what the x86-64 System V ABI asks a function to keep, and goes on with another stack.
extern "C" void cuda_cpu_switch(void** from, void* to);
asm(R"(
.text
.globl cuda_cpu_switch
.hidden cuda_cpu_switch
.type cuda_cpu_switch, @function
cuda_cpu_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_cpu_switch, .-cuda_cpu_switch
.section .note.GNU-stack,"",@progbits
.text
)");

// The section of `__shared__` variables; absent where there are none.
extern "C" __attribute__((weak, visibility("hidden"))) char __start_cuda_shared[];
extern "C" __attribute__((weak, visibility("hidden"))) char __stop_cuda_shared[];

namespace cuda_cpu {

Fiber fibers[MAX_THREADS];
Fiber* current;
int thread_count;

namespace {

constexpr size_t STACK_BYTES = 256 * 1024;
IF_ASAN(constexpr size_t FRAME_BYTES = 16 * 1024;)
constexpr int POISON = 0xff;  // NaN in f32, bf16 and f16

dim3 grid_blocks, block_threads;
uint3 block;
int live;
Launcher launcher;
void** parameters;
char* dynamic_memory;
size_t dynamic_bytes;
std::string failure;

void* scheduler_stack;
// What the sanitizers know of the scheduler's own stack.
IF_TSAN(void* scheduler_tsan;)
IF_ASAN(void* scheduler_fake_stack; const void* scheduler_bottom; size_t scheduler_bytes;)

// What ThreadSanitizer sees as the start and the end of a block, and of a barrier's turn.
// Two tags: a thread that ends does not come before one that begins later.
IF_TSAN(char block_begins; char block_ends; char barrier_tags[BARRIERS][2];)
char warp_tags[MAX_THREADS / WARP][2];
int barrier_turns[BARRIERS];

std::map<std::string, Kernel>& kernels() {
  static std::map<std::string, Kernel> all;
  return all;
}

void leave() {
  Fiber* me = current;
  (void)me;
  IF_TSAN(__tsan_switch_to_fiber(scheduler_tsan, 1));
  IF_ASAN(__sanitizer_start_switch_fiber(me->state == State::Ended ? nullptr : &me->fake_stack,
                                         scheduler_bottom, scheduler_bytes));
  cuda_cpu_switch(&me->stack_pointer, scheduler_stack);
  IF_ASAN(__sanitizer_finish_switch_fiber(me->fake_stack, &scheduler_bottom, &scheduler_bytes));
}

void resume(Fiber& fiber) {
  current = &fiber;
  IF_TSAN(__tsan_switch_to_fiber(fiber.tsan, 1));
  IF_ASAN(__sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack, STACK_BYTES));
  cuda_cpu_switch(&scheduler_stack, fiber.stack_pointer);
  IF_ASAN(__sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr));
}

// Where each fiber begins and ends.
void body() {
  IF_ASAN(__sanitizer_finish_switch_fiber(nullptr, &scheduler_bottom, &scheduler_bytes));
  IF_TSAN(__tsan_acquire(&block_begins));
  launcher(parameters);
  if (!current->copies.empty()) fail("a thread ended with cp.async copies that it did not wait for");
  if (!current->products.empty()) fail("a thread ended with products that it did not wait for");
  IF_TSAN(__tsan_release(&block_ends));
  current->state = State::Ended;
  live--;
  leave();
  __builtin_trap();
}

void start(Fiber& fiber, int number) {
  if (!fiber.stack) {
    fiber.stack = (char*)mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (fiber.stack == MAP_FAILED) abort();
    IF_TSAN(fiber.tsan = __tsan_create_fiber(0));
  }
  const unsigned i = number;
  fiber.number = number;
  fiber.index = {i % block_threads.x, i / block_threads.x % block_threads.y,
                 i / (block_threads.x * block_threads.y)};
  fiber.state = State::Ready;
  fiber.copies.clear();
  fiber.products.clear();
  fiber.group = fiber.warp_syncs = 0;
  fiber.fake_stack = nullptr;
  // The last block left the frame of `body` there, which never returned.
  IF_ASAN(__asan_unpoison_memory_region(fiber.stack + STACK_BYTES - FRAME_BYTES, FRAME_BYTES));
  // Six registers of no meaning, the start, and a return address that is never used; so the stack is
  // aligned as the ABI asks at a function's first instruction.
  void** top = (void**)(fiber.stack + STACK_BYTES - 64);
  *--top = nullptr;
  *--top = (void*)body;
  for (int k = 0; k < 6; k++) *--top = nullptr;
  fiber.stack_pointer = top;
}

// Lets threads go on whose barrier is complete.
bool release_barriers() {
  bool any = false;
  for (int id = 0; id < BARRIERS; id++) {
    int arrived = 0, wanted = 0;
    for (int i = 0; i < thread_count; i++)
      if (fibers[i].state == State::AtBarrier && fibers[i].barrier_id == id) {
        arrived++;
        wanted = fibers[i].barrier_count ? fibers[i].barrier_count : live;
      }
    if (arrived == 0 || arrived < wanted) continue;
    for (int i = 0; i < thread_count; i++)
      if (fibers[i].state == State::AtBarrier && fibers[i].barrier_id == id)
        fibers[i].state = State::Ready;
    barrier_turns[id]++;
    any = true;
  }
  for (int i = 0; i < thread_count; i++)
    if (fibers[i].state == State::AtPhase && phase_is_over(fibers[i].data, fibers[i].mask)) {
      fibers[i].state = State::Ready;
      any = true;
    }
  return any;
}

void run_block(const std::vector<int>& ascending, Order order, unsigned& random) {
  for (char* c = __start_cuda_shared; c && c < __stop_cuda_shared; c++) *c = char(POISON);
  for (size_t i = 0; i < dynamic_bytes; i++) dynamic_memory[i] = char(POISON);
  live = thread_count;
  forget_boxes();
  for (int i = 0; i < thread_count; i++) start(fibers[i], i);
  std::vector<int> turn = ascending;
  if (order == Order::Descending) std::reverse(turn.begin(), turn.end());
  IF_TSAN(__tsan_release(&block_begins));
  while (live > 0 && failure.empty()) {
    if (order == Order::Random)
      for (int i = thread_count - 1; i > 0; i--) {
        random = random * 1664525u + 1013904223u;
        std::swap(turn[i], turn[(random >> 8) % (i + 1)]);
      }
    bool any = false;
    for (int i : turn)
      if (fibers[i].state == State::Ready && failure.empty()) {
        any = true;
        resume(fibers[i]);
      }
    if (live > 0 && failure.empty() && !release_barriers() && !any && !land_box()) {
      current = nullptr;
      fail("deadlock: no thread can go on");
    }
  }
  IF_TSAN(__tsan_acquire(&block_ends));
  current = nullptr;
  if (failure.empty() && land_box()) fail("a block ended before a box that it asked for");
}

}  // namespace

uint3 thread_index() { return current->index; }
uint3 block_index() { return block; }
dim3 block_extent() { return block_threads; }
dim3 grid_extent() { return grid_blocks; }
int lane() { return current->number % WARP; }
unsigned char* dynamic_shared() { return (unsigned char*)dynamic_memory; }

void wait() { leave(); }

void fail(const std::string& what) {
  failure = what + " in block (" + std::to_string(block.x) + "," + std::to_string(block.y) + "," +
            std::to_string(block.z) + ")";
  if (current) failure += ", thread " + std::to_string(current->number);
  int told = 0, ended = 0;
  for (int i = 0; i < thread_count; i++) {
    const Fiber& fiber = fibers[i];
    const bool waits = fiber.state != State::Ready && fiber.state != State::Ended;
    if (waits && told < 6 && (told < 3 || i % WARP == 0)) {
      failure += "\n  thread " + std::to_string(i) + " waits at " + fiber.operation + " " +
                 fiber.place.file + ":" + std::to_string(fiber.place.line);
      told++;
    }
    ended += fiber.state == State::Ended;
  }
  failure += "\n  " + std::to_string(ended) + " of " + std::to_string(thread_count) +
             " threads have ended";
  // The fibers are abandoned where they stand; the scheduler sees the failure.
  if (current) {
    Fiber* me = current;
    (void)me;
    IF_TSAN(__tsan_switch_to_fiber(scheduler_tsan, 1));
    IF_ASAN(__sanitizer_start_switch_fiber(nullptr, scheduler_bottom, scheduler_bytes));
    cuda_cpu_switch(&me->stack_pointer, scheduler_stack);
    __builtin_trap();
  }
  throw failure;
}

uint32_t shared_offset(const void* pointer) {
  const char* c = (const char*)pointer;
  if (c >= dynamic_memory && c < dynamic_memory + dynamic_bytes) return c - dynamic_memory;
  if (__start_cuda_shared && c >= __start_cuda_shared && c < __stop_cuda_shared)
    return MAX_SHARED_BYTES + (c - __start_cuda_shared);
  fail("an address that must be in shared memory is not");
}

void barrier(Place place, int id, int count) {
  Fiber* me = current;
  me->operation = id == 0 ? "__syncthreads" : "a named barrier";
  me->place = place;
  me->barrier_id = id;
  me->barrier_count = count;
  if (id < 0 || id >= BARRIERS || count % WARP != 0) fail("a barrier that CUDA does not have");
  for (int i = 0; i < thread_count; i++) {
    const Fiber& other = fibers[i];
    if (other.state != State::AtBarrier || other.barrier_id != id) continue;
    const bool same = other.place.line == place.line && !strcmp(other.place.file, place.file);
    if (other.barrier_count != count || (id == 0 && !same)) {
      me->state = State::AtBarrier;
      fail("one barrier reached from two places (divergent barrier)");
    }
  }
  const int turn = barrier_turns[id] & 1;
  (void)turn;
  IF_TSAN(__tsan_release(&barrier_tags[id][turn]));
  me->state = State::AtBarrier;
  leave();
  IF_TSAN(__tsan_acquire(&barrier_tags[id][turn]));
}

void sync_warp(Place place, uint32_t mask) {
  char* tag = &warp_tags[current->number / WARP][current->warp_syncs++ & 1];
  (void)tag;
  IF_TSAN(__tsan_release(tag));
  int nothing = 0;
  together(place, "__syncwarp", mask, &nothing, [](void**) {});
  IF_TSAN(__tsan_acquire(tag));
}

void register_kernel(const char* name, Launcher launcher, const char* signature) {
  kernels()[name] = {launcher, signature};
}

const Kernel* find_kernel(const std::string& name) {
  const auto found = kernels().find(name);
  return found == kernels().end() ? nullptr : &found->second;
}

std::string run(const Kernel& kernel, const Grid& grid, void** arguments, Order order,
                unsigned seed) {
  grid_blocks = grid.blocks;
  block_threads = grid.threads;
  thread_count = grid.threads.x * grid.threads.y * grid.threads.z;
  launcher = kernel.launcher;
  parameters = arguments;
  dynamic_bytes = grid.shared_bytes;
  void* memory = nullptr;
  // Of the exact size, so that AddressSanitizer sees the first byte past the end.
  if (dynamic_bytes && posix_memalign(&memory, 1024, dynamic_bytes)) return "out of memory";
  dynamic_memory = (char*)memory;
  failure.clear();
  IF_TSAN(scheduler_tsan = __tsan_get_current_fiber());
  std::vector<int> ascending(thread_count);
  for (int i = 0; i < thread_count; i++) ascending[i] = i;
  unsigned random = seed * 2654435761u + 1;
  try {
    const uint64_t count = uint64_t(grid_blocks.x) * grid_blocks.y * grid_blocks.z;
    for (uint64_t i = 0; i < count && failure.empty(); i++) {
      const uint64_t at = order == Order::Descending ? count - 1 - i : i;
      block = {unsigned(at % grid_blocks.x), unsigned(at / grid_blocks.x % grid_blocks.y),
               unsigned(at / grid_blocks.x / grid_blocks.y)};
      run_block(ascending, order, random);
    }
  } catch (const std::string&) {
  }
  free(memory);
  dynamic_memory = nullptr;
  return failure;
}

}  // namespace cuda_cpu
