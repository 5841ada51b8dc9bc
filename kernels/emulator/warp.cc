// What the lanes of a warp do together, and cp.async. Compile without -fsanitize=thread.
#include "scheduler.h"

namespace cuda_cpu {

void together(Place place, const char* name, uint32_t mask, void* data,
              void (*operation)(void** lanes)) {
  Fiber* me = current;
  const int first = me->number / WARP * WARP;
  me->operation = name;
  me->place = place;
  me->mask = mask;
  me->data = data;
  me->state = State::InWarp;
  if (!(mask >> (me->number % WARP) & 1)) fail("the calling lane is not in its own mask");
  bool all = true;
  for (int lane = 0; lane < WARP; lane++) {
    if (!(mask >> lane & 1)) continue;
    if (first + lane >= thread_count) fail("a mask names a lane beyond the block");
    const Fiber& other = fibers[first + lane];
    if (other.state == State::Ended) fail("a mask names a lane that has ended");
    if (other.state != State::InWarp) {
      all = false;
    } else if (other.mask != mask || other.place.line != place.line ||
               strcmp(other.place.file, place.file) || strcmp(other.operation, name)) {
      fail("lanes of one warp are at different operations");
    }
  }
  if (!all) {
    wait();
    return;
  }
  void* lanes[WARP] = {};
  for (int lane = 0; lane < WARP; lane++)
    if (mask >> lane & 1) lanes[lane] = fibers[first + lane].data;
  operation(lanes);
  for (int lane = 0; lane < WARP; lane++)
    if (mask >> lane & 1) fibers[first + lane].state = State::Ready;
}

namespace {

struct Exchange {
  uint64_t value, result;
  int source;
  Reduce how;
  bool is_signed;
};

uint32_t reduced(uint32_t a, uint32_t b, Reduce how, bool is_signed) {
  const bool less = is_signed ? int32_t(a) < int32_t(b) : a < b;
  switch (how) {
    case Reduce::Add: return a + b;
    case Reduce::Min: return less ? a : b;
    case Reduce::Max: return less ? b : a;
    case Reduce::And: return a & b;
    case Reduce::Or: return a | b;
    case Reduce::Xor: return a ^ b;
  }
  return 0;
}

struct Rows {
  const void* row;
  uint32_t* to;
  int matrices;
  bool transposed;
};

struct Fragments {
  float* d;
  const uint32_t *a, *b;
};

uint16_t half_of(uint32_t word, int half) { return uint16_t(half ? word >> 16 : word); }

}  // namespace

uint64_t shuffle(Place place, const char* name, uint32_t mask, uint64_t value, int source) {
  Exchange mine{value, value, source, Reduce::Add, false};
  together(place, name, mask, &mine, [](void** lanes) {
    for (int lane = 0; lane < WARP; lane++) {
      if (!lanes[lane]) continue;
      Exchange* me = (Exchange*)lanes[lane];
      const Exchange* from = (const Exchange*)lanes[me->source];
      if (!from) fail("a shuffle reads from a lane outside its mask");
      me->result = from->value;
    }
  });
  return mine.result;
}

uint32_t ballot(Place place, const char* name, uint32_t mask, bool vote) {
  Exchange mine{vote, 0, 0, Reduce::Add, false};
  together(place, name, mask, &mine, [](void** lanes) {
    uint32_t votes = 0;
    for (int lane = 0; lane < WARP; lane++)
      if (lanes[lane] && ((Exchange*)lanes[lane])->value) votes |= 1u << lane;
    for (int lane = 0; lane < WARP; lane++)
      if (lanes[lane]) ((Exchange*)lanes[lane])->result = votes;
  });
  return uint32_t(mine.result);
}

uint32_t reduce(Place place, const char* name, uint32_t mask, uint32_t value, Reduce how,
                bool is_signed) {
  Exchange mine{value, 0, 0, how, is_signed};
  together(place, name, mask, &mine, [](void** lanes) {
    const Exchange* first = nullptr;
    uint32_t total = 0;
    for (int lane = 0; lane < WARP; lane++) {
      const Exchange* next = (const Exchange*)lanes[lane];
      if (!next) continue;
      const uint32_t value = uint32_t(next->value);
      total = first ? reduced(total, value, first->how, first->is_signed) : value;
      if (!first) first = next;
    }
    for (int lane = 0; lane < WARP; lane++)
      if (lanes[lane]) ((Exchange*)lanes[lane])->result = total;
  });
  return uint32_t(mine.result);
}

uint32_t active_mask() {
  const int first = current->number / WARP * WARP;
  uint32_t mask = 0;
  for (int lane = 0; lane < WARP && first + lane < thread_count; lane++)
    if (fibers[first + lane].state != State::Ended) mask |= 1u << lane;
  return mask;
}

void ldmatrix(Place place, int matrices, bool transposed, uint32_t* to, const void* row) {
  Rows mine{row, to, matrices, transposed};
  if (lane() < 8 * matrices) {
    shared_offset(row);
    shared_offset((const char*)row + 15);
    if ((uintptr_t)row % 16) fail("a row of ldmatrix is not at a multiple of 16 bytes");
    IF_TSAN(__tsan_read_range((void*)row, 16));
  }
  together(place, transposed ? "ldmatrix.trans" : "ldmatrix", ~0u, &mine, [](void** lanes) {
    const int matrices = ((Rows*)lanes[0])->matrices;
    for (int m = 0; m < matrices; m++)
      for (int lane = 0; lane < WARP; lane++) {
        const Rows* me = (const Rows*)lanes[lane];
        const int row = lane / 4, column = lane % 4 * 2;
        const auto at = [&](int row, int column) {
          return ((const uint16_t*)((Rows*)lanes[m * 8 + row])->row)[column];
        };
        const uint32_t low = me->transposed ? at(column, row) : at(row, column);
        const uint32_t high = me->transposed ? at(column + 1, row) : at(row, column + 1);
        me->to[m] = low | high << 16;
      }
  });
}

void mma_m16n8k16_bf16(Place place, float* d, const uint32_t* a, const uint32_t* b) {
  Fragments mine{d, a, b};
  together(place, "mma.m16n8k16", ~0u, &mine, [](void** lanes) {
    // The layout of fragments: PTX ISA 9.0, section "Matrix fragments for mma.m16n8k16".
    uint16_t a[16][16], b[8][16];
    for (int lane = 0; lane < WARP; lane++) {
      const Fragments* p = (const Fragments*)lanes[lane];
      const int group = lane / 4, pair = lane % 4 * 2;
      for (int half = 0; half < 2; half++) {
        a[group][pair + half] = half_of(p->a[0], half);
        a[group + 8][pair + half] = half_of(p->a[1], half);
        a[group][pair + 8 + half] = half_of(p->a[2], half);
        a[group + 8][pair + 8 + half] = half_of(p->a[3], half);
        b[group][pair + half] = half_of(p->b[0], half);
        b[group][pair + 8 + half] = half_of(p->b[1], half);
      }
    }
    for (int lane = 0; lane < WARP; lane++) {
      Fragments* p = (Fragments*)lanes[lane];
      for (int i = 0; i < 4; i++) {
        const int row = lane / 4 + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        p->d[i] = tensor_core_sum(tensor_core, p->d[i], a[row], b[column]);
      }
    }
  });
}

void copy_async(Place, void* to, const void* from, int bytes, int valid_bytes) {
  shared_offset(to);
  shared_offset((char*)to + bytes - 1);
  if (((uintptr_t)to | (valid_bytes ? (uintptr_t)from : 0)) % bytes)
    fail("cp.async between addresses that are not multiples of its size");
  current->copies.push_back({(char*)to, (const char*)from, bytes, valid_bytes, current->group});
}

void copy_async_commit() { current->group++; }

void copy_async_wait(int pending_groups) {
  Fiber* me = current;
  std::vector<Copy> pending;
  for (const Copy& copy : me->copies) {
    if (copy.group >= me->group - pending_groups) {
      pending.push_back(copy);
      continue;
    }
    IF_TSAN(if (copy.valid_bytes) __tsan_read_range((void*)copy.from, copy.valid_bytes));
    IF_TSAN(__tsan_write_range(copy.to, copy.bytes));
    for (int i = 0; i < copy.bytes; i++) copy.to[i] = i < copy.valid_bytes ? copy.from[i] : 0;
  }
  me->copies = pending;
}

// Taking and giving the lock of each atomic operation.
void atomic_enter(void* at) {
  (void)at;
  IF_TSAN(__tsan_acquire(at));
}
void atomic_leave(void* at) {
  (void)at;
  IF_TSAN(__tsan_release(at));
}

}  // namespace cuda_cpu
