// The format of traces: little-endian words and arrays with their lengths before them.
#include "trace.h"

#include <stdexcept>

namespace trace {

namespace {

constexpr uint32_t MAGIC = 0x3152544e;  // "NTR1"

template <class T>
void put(FILE* file, const T& value) {
  fwrite(&value, sizeof value, 1, file);
}
template <class T>
void put_all(FILE* file, const T* data, uint64_t count) {
  put(file, count);
  fwrite(data, sizeof(T), count, file);
}
void take_bytes(FILE* file, void* to, size_t bytes) {
  if (bytes && fread(to, 1, bytes, file) != bytes) throw std::runtime_error("the trace is cut off");
}
template <class T>
void take(FILE* file, T& value) {
  take_bytes(file, &value, sizeof value);
}
template <class C>
void take_all(FILE* file, C& container) {
  uint64_t count = 0;
  take(file, count);
  if (count > (1ull << 32)) throw std::runtime_error("the trace is damaged");
  container.resize(count);
  take_bytes(file, container.data(), count * sizeof container[0]);
}

}  // namespace

void write(FILE* file, const Launch& launch) {
  put(file, MAGIC);
  put_all(file, launch.kernel.data(), launch.kernel.size());
  put(file, launch.blocks);
  put(file, launch.threads);
  put(file, launch.shared_bytes);
  put(file, launch.ampere);
  put_all(file, launch.arguments.data(), launch.arguments.size());
  put(file, uint64_t(launch.buffers.size()));
  for (const Buffer& buffer : launch.buffers) {
    put_all(file, buffer.before.data(), buffer.before.size());
    put_all(file, buffer.after.data(), buffer.after.size());
    put_all(file, buffer.pointers.data(), buffer.pointers.size());
  }
  fflush(file);
}

bool read(FILE* file, Launch& launch) {
  uint32_t magic = 0;
  const size_t got = fread(&magic, 1, sizeof magic, file);
  if (got == 0) return false;
  if (got != sizeof magic || magic != MAGIC) throw std::runtime_error("this is no trace");
  take_all(file, launch.kernel);
  take(file, launch.blocks);
  take(file, launch.threads);
  take(file, launch.shared_bytes);
  take(file, launch.ampere);
  take_all(file, launch.arguments);
  uint64_t buffers = 0;
  take(file, buffers);
  launch.buffers.assign(buffers, {});
  for (Buffer& buffer : launch.buffers) {
    take_all(file, buffer.before);
    take_all(file, buffer.after);
    take_all(file, buffer.pointers);
  }
  return true;
}

}  // namespace trace
