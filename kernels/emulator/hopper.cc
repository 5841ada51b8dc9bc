// Barriers in shared memory, TMA and products of warp groups, as the PTX manual describes them: ISA
// 9.0, "mbarrier", "cp.async.bulk.tensor", "Asynchronous warpgroup level matrix". What is in flight
// happens as late as it can: a box lands when nobody can go on without it, the last one asked for first
// (boxes have no order among them), a product is made when it is waited for. Compile without -fsanitize=thread.
#include "scheduler.h"

namespace cuda_cpu {

namespace {

// A barrier's 64 bits.
struct Barrier {
  uint16_t expected, pending;
  // Bytes that are to come.
  int32_t bytes : 31;
  uint32_t phase : 1;
};
static_assert(sizeof(Barrier) == 8, "a barrier is 8 bytes");

struct Box {
  char* to;
  const uint64_t* map;
  uint64_t* barrier;
  int x, y, z;
};
// Those under way. (What ThreadSanitizer watches, such as a vector's memory, must not be
// shared by threads here.)
constexpr unsigned MAX_BOXES = 64;
Box boxes[MAX_BOXES];
unsigned boxes_under_way;

constexpr int BOX_ROWS = 64, ROW_BYTES = 128;

// g++ puts `__shared__` variables of templates into sections of their own, so the place of a barrier
// is not checked.
Barrier& barrier_at(uint64_t* word) { return *reinterpret_cast<Barrier*>(word); }

void end_of_phase(Barrier& barrier) {
  if (barrier.pending || barrier.bytes) return;
  barrier.pending = barrier.expected;
  barrier.phase ^= 1;
}

// Chunks of 16 bytes are swizzled among the eight of a row of 128 by the row's number.
uint32_t swizzled(uint32_t address) { return address ^ (address >> 7 & 7) << 4; }

// Element `i` along the outputs and `k` along the sum of an operand.
uint16_t element(uint64_t operand, bool across, int i, int k) {
  const uint32_t start = (operand & 0x3fff) << 4, leading = (operand >> 16 & 0x3fff) << 4;
  const uint32_t stride = (operand >> 32 & 0x3fff) << 4;
  const uint32_t at = across ? i / 64 * leading + k / 8 * stride + k % 8 * ROW_BYTES + i % 64 * 2
                             : i / 8 * stride + i % 8 * ROW_BYTES + k * 2;
  const uint32_t address = swizzled(start + at);
  shared_offset(dynamic_shared() + address + 1);
  uint16_t value;
  memcpy(&value, dynamic_shared() + address, 2);
  return value;
}

void make(const Product& p) {
  const int warp = p.thread / WARP % 4, lane = p.thread % WARP;
  uint16_t a[2][16], b[16];
  for (int r = 0; r < 2; r++)
    for (int k = 0; k < 16; k++)
      a[r][k] = p.in_registers ? p.rows[r][k]
                               : element(p.a, p.a_across, 16 * warp + lane / 4 + 8 * r, k);
  for (int j = 0; j < p.columns / 8; j++)
    for (int e = 0; e < 2; e++) {
      for (int k = 0; k < 16; k++) b[k] = element(p.b, p.b_across, 8 * j + lane % 4 * 2 + e, k);
      for (int r = 0; r < 2; r++) {
        float& d = p.d[4 * j + 2 * r + e];
        d = tensor_core_sum(tensor_core, d, a[r], b);
      }
    }
}

}  // namespace

void barrier_init(uint64_t* word, uint32_t arrivals) {
  barrier_at(word) = {uint16_t(arrivals), uint16_t(arrivals), 0, 0};
}

void barrier_arrive(uint64_t* word, uint32_t bytes) {
  Barrier& barrier = barrier_at(word);
  if (!barrier.pending) fail("more arrivals than a barrier expects");
  IF_TSAN(__tsan_release(word));
  barrier.bytes += bytes;
  barrier.pending--;
  end_of_phase(barrier);
}

void barrier_wait(Place place, uint64_t* word, uint32_t phase) {
  Fiber* me = current;
  if (!phase_is_over(word, phase)) {
    me->operation = "mbarrier.try_wait";
    me->place = place;
    me->data = word;
    me->mask = phase;
    me->state = State::AtPhase;
    wait();
  }
  IF_TSAN(__tsan_acquire(word));
}

bool phase_is_over(void* word, uint32_t phase) {
  return barrier_at((uint64_t*)word).phase != phase;
}

void fetch_box(void* to, const void* map, uint64_t* barrier, int x, int y, int z) {
  if (shared_offset(to) % 1024) fail("a box that does not begin at a multiple of 1,024 bytes");
  if (boxes_under_way == MAX_BOXES) fail("more boxes under way than are kept here");
  boxes[boxes_under_way++] = {(char*)to, (const uint64_t*)map, barrier, x, y, z};
}

void forget_boxes() { boxes_under_way = 0; }

bool land_box() {
  if (boxes_under_way == 0) return false;
  const Box box = boxes[--boxes_under_way];
  const int64_t count = box.map[0], rows = box.map[1], columns = box.map[2];
  const uint16_t* from = (const uint16_t*)box.map[3];
  for (int r = 0; r < BOX_ROWS; r++)
    for (int i = 0; i < 64; i++) {
      const int64_t row = box.y + r, column = box.x + i;
      const bool there = box.z < count && row < rows && column < columns;
      const uint16_t value = there ? from[(box.z * rows + row) * columns + column] : 0;
      const uint32_t at = shared_offset(box.to) + r * ROW_BYTES + i * 2;
      memcpy(dynamic_shared() + swizzled(at), &value, 2);
    }
  Barrier& barrier = barrier_at(box.barrier);
  barrier.bytes -= BOX_ROWS * ROW_BYTES;
  end_of_phase(barrier);
  return true;
}

void wgmma(Place place, float* d, int columns, const uint32_t* a, uint64_t a_operand,
           bool a_across, uint64_t b, bool b_across) {
  Product p{d, columns, current->number, a != nullptr, {}, a_operand, a_across, b, b_across,
            current->group};
  // All lanes are here; of a left factor in registers each needs what its row's three others hold.
  for (int i = 0; i < 4; i++)
    for (int other = 0; other < 4; other++) {
      const uint32_t pair =
          shuffle(place, "wgmma", ~0u, a ? a[i] : 0, lane() / 4 * 4 + other);
      for (int half = 0; half < 2; half++)
        p.rows[i % 2][8 * (i / 2) + 2 * other + half] = uint16_t(pair >> 16 * half);
    }
  current->products.push_back(p);
}

void wgmma_commit() { current->group++; }

void wgmma_wait(int pending_groups) {
  Fiber* me = current;
  std::vector<Product> pending;
  for (const Product& p : me->products) {
    if (p.group >= me->group - pending_groups) pending.push_back(p);
    else make(p);
  }
  me->products = pending;
}

}  // namespace cuda_cpu
