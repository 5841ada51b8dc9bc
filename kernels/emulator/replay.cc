// Runs the launches of a trace again and compares every byte of every buffer with the first run.
//
//   replay TRACE [--order ascending|descending|random] [--seed N] [--max-threads N] [--per-kernel N]
//          [--only START_OF_A_KERNELS_NAME]
//
// Built plain, with AddressSanitizer and UndefinedBehaviorSanitizer, and with ThreadSanitizer: buffers
// have their exact sizes, and other orders of threads must not change a byte. Exit code 1: a launch failed
// or differs.
#include <cstdlib>
#include <cstring>
#include <map>
#include <stdexcept>

#include "scheduler.h"
#include "trace.h"

namespace {

struct Options {
  const char* trace = nullptr;
  cuda_cpu::Order order = cuda_cpu::Order::Ascending;
  unsigned seed = 1;
  uint64_t max_threads = ~0ull;
  int per_kernel = 1 << 30;
  std::string only;
};

bool parse(int count, char** words, Options& options) {
  for (int i = 1; i < count; i++) {
    const std::string word = words[i];
    const char* value = i + 1 < count ? words[i + 1] : "";
    if (word == "--order") {
      options.order = !strcmp(value, "descending") ? cuda_cpu::Order::Descending
                      : !strcmp(value, "random")   ? cuda_cpu::Order::Random
                                                   : cuda_cpu::Order::Ascending;
      i++;
    } else if (word == "--seed") {
      options.seed = unsigned(atoi(value));
      i++;
    } else if (word == "--max-threads") {
      options.max_threads = strtoull(value, nullptr, 10);
      i++;
    } else if (word == "--only") {
      options.only = value;
      i++;
    } else if (word == "--per-kernel") {
      options.per_kernel = atoi(value);
      i++;
    } else {
      options.trace = words[i];
    }
  }
  return options.trace != nullptr;
}

// What went wrong, or an empty string.
std::string replay(const trace::Launch& launch, const Options& options) {
  const cuda_cpu::Kernel* kernel = cuda_cpu::find_kernel(launch.kernel);
  if (!kernel) return "there is no such kernel";
  std::vector<char*> memory;
  for (const trace::Buffer& buffer : launch.buffers) {
    void* data = nullptr;
    if (posix_memalign(&data, 256, buffer.before.size())) return "out of memory";
    if (!buffer.before.empty()) memcpy(data, buffer.before.data(), buffer.before.size());
    memory.push_back((char*)data);
  }
  const auto address = [&](const trace::Target& target) {
    return target.buffer == trace::NOWHERE ? 0 : uint64_t(memory[target.buffer]) + target.offset;
  };
  std::vector<std::vector<char>> wanted;
  for (size_t i = 0; i < memory.size(); i++) {
    wanted.push_back(launch.buffers[i].after);
    for (const trace::Inner& inner : launch.buffers[i].pointers) {
      const uint64_t word = address(inner.target);
      memcpy(memory[i] + inner.at, &word, 8);
      // Where the kernel left the old pointer, the new one is to be.
      if (!memcmp(&wanted[i][inner.at], &launch.buffers[i].before[inner.at], 8))
        memcpy(&wanted[i][inner.at], &word, 8);
    }
  }
  std::vector<uint64_t> words;
  for (const trace::Argument& argument : launch.arguments)
    words.push_back(argument.kind == 'p' ? address(argument.target) : argument.word);
  std::vector<void*> parameters;
  for (uint64_t& word : words) parameters.push_back(&word);

  const cuda_cpu::Grid grid{{launch.blocks[0], launch.blocks[1], launch.blocks[2]},
                            {launch.threads[0], launch.threads[1], launch.threads[2]},
                            launch.shared_bytes};
  cuda_cpu::tensor_core = launch.ampere ? cuda_cpu::AMPERE : cuda_cpu::HOPPER;
  std::string wrong =
      cuda_cpu::run(*kernel, grid, parameters.data(), options.order, options.seed);
  for (size_t i = 0; i < memory.size() && wrong.empty(); i++)
    for (size_t at = 0; at < wanted[i].size(); at++)
      if (memory[i][at] != wanted[i][at]) {
        wrong = "byte " + std::to_string(at) + " of buffer " + std::to_string(i) + " (" +
                std::to_string(wanted[i].size()) + " bytes) differs";
        break;
      }
  for (char* data : memory) free(data);
  return wrong;
}

}  // namespace

int main(int count, char** words) {
  Options options;
  if (!parse(count, words, options)) {
    fprintf(stderr, "usage: replay TRACE [--order ascending|descending|random] [--seed N]"
                    " [--max-threads N] [--per-kernel N] [--only START]\n");
    return 2;
  }
  FILE* file = fopen(options.trace, "rb");
  if (!file) {
    fprintf(stderr, "%s cannot be read\n", options.trace);
    return 2;
  }
  int run = 0, skipped = 0, wrong = 0;
  std::map<std::string, int> seen;
  try {
    trace::Launch launch;
    while (trace::read(file, launch)) {
      uint64_t threads = 1;
      for (int i = 0; i < 3; i++) threads *= uint64_t(launch.blocks[i]) * launch.threads[i];
      if (launch.kernel.rfind(options.only, 0) != 0) continue;
      if (threads > options.max_threads || seen[launch.kernel] >= options.per_kernel) {
        skipped++;
        continue;
      }
      seen[launch.kernel]++;
      run++;
      const std::string what = replay(launch, options);
      if (what.empty()) continue;
      wrong++;
      fprintf(stderr, "%s, %u x %u x %u blocks of %u x %u x %u: %s\n", launch.kernel.c_str(),
              launch.blocks[0], launch.blocks[1], launch.blocks[2], launch.threads[0],
              launch.threads[1], launch.threads[2], what.c_str());
      if (wrong == 5) break;
    }
  } catch (const std::runtime_error& error) {
    fprintf(stderr, "%s: %s\n", options.trace, error.what());
    return 2;
  }
  fclose(file);
  printf("%d launches of %zu kernels run again, %d skipped, %d wrong\n", run, seen.size(), skipped,
         wrong);
  return wrong != 0;
}
