// The emulator as a library: memory, transfers and launches with C names. Its only user is
// src/backend/cuda/emulator.rs, where the functions are declared again.
//
// Device memory is memory of the process, each allocation of exactly the size asked for. A launch may
// be recorded; see trace.h. One launch runs at a time.
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>

#include "scheduler.h"
#include "trace.h"

namespace {

using cuda_cpu::Grid;

std::mutex busy;
// Start and size of what is allocated.
std::map<uint64_t, uint64_t> allocations;
FILE* recording;
std::set<std::string> recorded;
uint64_t recorded_bytes;

// Larger launches are not recorded, and a trace grows no longer than this.
constexpr uint64_t MAX_LAUNCH_BYTES = 4 << 20, MAX_TRACE_BYTES = 1 << 30;

int refuse(const std::string& what, char* message, uint64_t message_bytes) {
  snprintf(message, message_bytes, "%s", what.c_str());
  return 1;
}

// The allocation around `address`, or the end.
std::map<uint64_t, uint64_t>::iterator allocation_of(uint64_t address) {
  auto next = allocations.upper_bound(address);
  if (next == allocations.begin()) return allocations.end();
  --next;
  return address < next->first + next->second ? next : allocations.end();
}

bool inside(uint64_t address, uint64_t bytes) {
  const auto found = allocation_of(address);
  return bytes == 0 || (found != allocations.end() && address + bytes <= found->first + found->second);
}

// Collects the buffers of a launch, those that their own contents point to included.
struct Recorder {
  trace::Launch launch;
  std::vector<uint64_t> starts;
  uint64_t bytes = 0;

  trace::Target target(uint64_t address) {
    const auto found = allocation_of(address);
    if (found == allocations.end()) return {trace::NOWHERE, 0};
    uint32_t buffer = 0;
    while (buffer < starts.size() && starts[buffer] != found->first) buffer++;
    if (buffer == starts.size()) {
      starts.push_back(found->first);
      launch.buffers.emplace_back();
      bytes += found->second;
    }
    return {buffer, address - found->first};
  }

  void before() {
    // `starts` grows as pointers are found.
    for (size_t i = 0; i < starts.size() && bytes <= MAX_LAUNCH_BYTES; i++) {
      const char* data = (const char*)starts[i];
      const uint64_t size = allocations[starts[i]];
      std::vector<trace::Inner> pointers;
      for (uint64_t at = 0; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, data + at, 8);
        if (word < (1ull << 32)) continue;
        const trace::Target leads = target(word);
        if (leads.buffer != trace::NOWHERE) pointers.push_back({at, leads});
      }
      launch.buffers[i].pointers = pointers;
      launch.buffers[i].before.assign(data, data + size);
    }
  }

  void after() {
    for (size_t i = 0; i < starts.size(); i++) {
      const char* data = (const char*)starts[i];
      launch.buffers[i].after.assign(data, data + allocations[starts[i]]);
    }
  }
};

}  // namespace

extern "C" {

struct NeuroshardLaunch {
  const char* kernel;
  uint32_t blocks[3], threads[3], shared_bytes;
  // 0 Hopper, 1 Ampere.
  uint32_t ampere;
  // 0 ascending, 1 descending, 2 random.
  uint32_t order;
  uint32_t seed;
  uint64_t argument_count;
  const uint64_t* words;
  const char* kinds;
};

// Changes with the functions below.
uint32_t neuroshard_emulator_version() { return 1; }

// Zeros; null where there is no memory.
uint64_t neuroshard_emulator_alloc(uint64_t bytes) {
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, bytes)) return 0;
  memset(memory, 0, bytes);
  const std::lock_guard<std::mutex> lock(busy);
  allocations[(uint64_t)memory] = bytes;
  return (uint64_t)memory;
}

void neuroshard_emulator_free(uint64_t address) {
  const std::lock_guard<std::mutex> lock(busy);
  if (allocations.erase(address)) free((void*)address);
}

// Writes every launch from now on to `path`; null ends it.
int neuroshard_emulator_record(const char* path, char* message, uint64_t message_bytes) {
  const std::lock_guard<std::mutex> lock(busy);
  if (recording) fclose(recording);
  recording = nullptr;
  if (path && !(recording = fopen(path, "ab")))
    return refuse(std::string(path) + ": cannot be written", message, message_bytes);
  return 0;
}

// kind 0: host to device, 1: device to host, 2: within the device, 3: zeros.
int neuroshard_emulator_transfer(uint32_t kind, uint64_t to, uint64_t from, uint64_t bytes,
                                 char* message, uint64_t message_bytes) {
  const std::lock_guard<std::mutex> lock(busy);
  if ((kind != 1 && !inside(to, bytes)) || ((kind == 1 || kind == 2) && !inside(from, bytes)))
    return refuse("a transfer beyond what is allocated", message, message_bytes);
  if (kind == 2 && to < from + bytes && from < to + bytes && bytes)
    return refuse("a copy between ranges that overlap", message, message_bytes);
  if (kind == 3)
    memset((void*)to, 0, bytes);
  else
    memcpy((void*)to, (const void*)from, bytes);
  return 0;
}

int neuroshard_emulator_launch(const NeuroshardLaunch* wish, char* message,
                               uint64_t message_bytes) {
  const std::lock_guard<std::mutex> lock(busy);
  const cuda_cpu::Kernel* kernel = cuda_cpu::find_kernel(wish->kernel);
  if (!kernel) return 2;
  const auto refused = [&](const std::string& what) { return refuse(what, message, message_bytes); };

  const uint32_t *blocks = wish->blocks, *threads = wish->threads;
  const uint64_t count = uint64_t(threads[0]) * threads[1] * threads[2];
  if (count == 0 || count > 1024 || threads[2] > 64) return refused("blocks have 1 to 1024 threads");
  if (!blocks[0] || !blocks[1] || !blocks[2] || blocks[1] > 65535 || blocks[2] > 65535)
    return refused("a grid that CUDA does not have");
  if (wish->shared_bytes > cuda_cpu::MAX_SHARED_BYTES)
    return refused("more shared memory than a block can have");

  const std::string kinds(wish->kinds, wish->argument_count);
  if (kinds != kernel->signature)
    return refused("launched with arguments of kinds " + kinds + ", and its parameters are " +
                   kernel->signature + " (p pointer, u 32-bit integer, U 64-bit integer, f float)");
  std::vector<uint64_t> words(wish->words, wish->words + wish->argument_count);
  std::vector<void*> parameters;
  for (uint64_t& word : words) parameters.push_back(&word);
  for (size_t i = 0; i < words.size(); i++)
    if (kinds[i] == 'p' && words[i] && allocation_of(words[i]) == allocations.end())
      return refused("argument " + std::to_string(i) + " points to nothing allocated");

  Recorder recorder;
  std::string key = wish->kernel;
  for (int i = 0; i < 3; i++)
    key += " " + std::to_string(blocks[i]) + " " + std::to_string(threads[i]);
  for (size_t i = 0; i < words.size(); i++)
    if (kinds[i] != 'p') key += " " + std::to_string(words[i]);
  key += wish->ampere ? " ampere" : "";
  bool record = recording && recorded_bytes < MAX_TRACE_BYTES && !recorded.count(key);
  if (record) {
    trace::Launch& launch = recorder.launch;
    launch.kernel = wish->kernel;
    memcpy(launch.blocks, blocks, sizeof launch.blocks);
    memcpy(launch.threads, threads, sizeof launch.threads);
    launch.shared_bytes = wish->shared_bytes;
    launch.ampere = wish->ampere;
    for (size_t i = 0; i < words.size(); i++)
      launch.arguments.push_back({kinds[i], words[i],
                                  kinds[i] == 'p' ? recorder.target(words[i])
                                                  : trace::Target{trace::NOWHERE, 0}});
    recorder.before();
    record = recorder.bytes <= MAX_LAUNCH_BYTES;
  }

  cuda_cpu::tensor_core = wish->ampere ? cuda_cpu::AMPERE : cuda_cpu::HOPPER;
  const Grid grid{{blocks[0], blocks[1], blocks[2]},
                  {threads[0], threads[1], threads[2]},
                  wish->shared_bytes};
  const std::string failure = cuda_cpu::run(*kernel, grid, parameters.data(),
                                            cuda_cpu::Order(wish->order), wish->seed);
  if (!failure.empty()) return refused(failure);
  if (record) {
    recorder.after();
    trace::write(recording, recorder.launch);
    recorded.insert(key);
    recorded_bytes += 2 * recorder.bytes;
  }
  return 0;
}

}  // extern "C"
