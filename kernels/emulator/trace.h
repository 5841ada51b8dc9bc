// Launches on file: what a kernel was given and what it made of it, to be run again elsewhere.
#pragma once
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace trace {

// Where a pointer leads: into a buffer of the launch, or nowhere.
struct Target {
  uint32_t buffer;
  uint64_t offset;
};
constexpr uint32_t NOWHERE = 0xffffffffu;

struct Argument {
  // As in cuda_cpu::register_kernel.
  char kind;
  uint64_t word;
  Target target;
};

// A pointer inside a buffer, such as one of a table of tensors.
struct Inner {
  uint64_t at;
  Target target;
};

struct Buffer {
  std::vector<char> before, after;
  std::vector<Inner> pointers;
};

struct Launch {
  std::string kernel;
  uint32_t blocks[3], threads[3], shared_bytes, ampere;
  std::vector<Argument> arguments;
  std::vector<Buffer> buffers;
};

// Appends a launch.
void write(FILE*, const Launch&);
// Reads the next launch; false at the end of the file, an exception where it is damaged.
bool read(FILE*, Launch&);

}  // namespace trace
