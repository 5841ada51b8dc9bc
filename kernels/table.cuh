// Many tensors in one launch: work is cut into blocks of 4,096 elements of one tensor, and a table says
// where tensors are; `first` of each is the number of its first block, ascending.

#pragma once

#include "exact.cuh"

constexpr int BLOCK = 4096;

// The tensor to which a block belongs.
template <class Entry> __device__ __forceinline__ Entry find(const Entry* table, int tensors) {
  int low = 0, high = tensors;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (table[middle].first <= blockIdx.x) low = middle;
    else high = middle;
  }
  return table[low];
}
