// Weights from the file into packed tiles, split over the threads.
#include <cstring>
#include <exception>

#include "device/cpu/state.h"
#include "numerics/blocks.h"

namespace orcd::cpu {
namespace {

// Runs fn(thread) on the pool; the first exception of any thread is thrown here.
template <typename Function>
void run_throwing(ThreadPool& pool, const Function& fn) {
  std::vector<std::exception_ptr> errors(pool.n_threads());
  pool.run([&](uint32_t thread) {
    try {
      fn(thread);
    } catch (...) {
      errors[thread] = std::current_exception();
    }
  });
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

void load_matrix(State& state, model::WeightId id) {
  const model::Weight& weight = state.weight(id);
  const FormatInfo* format = find_format(weight.type);
  const uint64_t row_bytes = weight.cols / format->block_elements * format->block_bytes;
  const uint64_t expert_tiles = tile_count(weight.rows), n_tiles = expert_tiles * weight.n_experts;
  const uint64_t tile_bytes = tile_layout(weight.type, weight.cols).tile_bytes;
  uint8_t* packed = state.item(state.plan.weights[id]);
  const uint32_t n_threads = state.pool.n_threads();
  run_throwing(state.pool, [&](uint32_t thread) {
    uint8_t* staging = state.item(state.plan.staging[thread]);
    for (uint64_t tile = n_tiles * thread / n_threads; tile < n_tiles * (thread + 1) / n_threads; ++tile) {
      const uint64_t expert_row = tile / expert_tiles * weight.rows, row = tile % expert_tiles * kTileRows;
      const auto n_rows = static_cast<uint32_t>(std::min<uint64_t>(kTileRows, weight.rows - row));
      state.program->spec.file->read(*weight.tensor, (weight.row_begin + expert_row + row) * row_bytes,
                                     {staging, n_rows * row_bytes});
      pack_tile(weight.type, weight.cols, staging, row_bytes, n_rows, packed + tile * tile_bytes);
    }
  });
}

void load_vector(State& state, model::WeightId id) {
  const model::Weight& weight = state.weight(id);
  const uint64_t element_bytes = find_format(weight.type)->block_bytes;
  const uint64_t n = weight.cols * weight.n_experts;
  std::vector<uint8_t> bytes(n * element_bytes);
  state.program->spec.file->read(*weight.tensor, weight.row_begin * element_bytes, bytes);
  numerics::dequantize_row(weight.type, bytes.data(), n, state.floats(state.plan.weights[id]));
}

}  // namespace

std::vector<numerics::Digest> load_weights(State& state, const device::Progress& progress) {
  uint64_t total = 0, done = 0;
  for (const uint32_t item : state.plan.weights) total += state.plan.plan.items()[item].bytes;
  for (model::WeightId id = 0; id < state.program->weights.size(); ++id) {
    if (state.weight(id).role == model::WeightRole::kMatrix) {
      load_matrix(state, id);
    } else {
      load_vector(state, id);
    }
    done += state.plan.plan.items()[state.plan.weights[id]].bytes;
    if (progress) progress(done, total);
  }
  return digest_weights(state);
}

std::vector<numerics::Digest> digest_weights(State& state) {
  const size_t n = state.program->weights.size();
  const uint32_t n_threads = state.pool.n_threads();
  std::vector<numerics::Digest> partial(n * n_threads);
  state.pool.run([&](uint32_t thread) {
    for (size_t id = 0; id < n; ++id) {
      const memory::PlanItem& item = state.plan.plan.items()[state.plan.weights[id]];
      const uint64_t words = (item.bytes + 7) / 8;
      const uint64_t begin = words * thread / n_threads, end = words * (thread + 1) / n_threads;
      const uint64_t bytes = std::min(end * 8, item.bytes) - begin * 8;
      partial[id * n_threads + thread] =
          numerics::digest_bytes(state.item(state.plan.weights[id]) + begin * 8, bytes, begin);
    }
  });
  std::vector<numerics::Digest> digests(n);
  for (size_t i = 0; i < partial.size(); ++i) {
    digests[i / n_threads].a += partial[i].a;
    digests[i / n_threads].b += partial[i].b;
  }
  return digests;
}

}  // namespace orcd::cpu
