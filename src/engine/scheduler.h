// Decides what each step computes: first come first served, continuous batching over slots, prompts in
// chunks, pages from the pool, preemption by recompute. Who waits for a reader holds nobody up: others take
// its slot and pages, and it is computed again from its tokens later. Sees no tensor, no clock and no thread.
#pragma once

#include <deque>
#include <memory>
#include <span>
#include <vector>

#include "device/device.h"
#include "kv/block_table.h"

namespace orcd::engine {

// One request as the scheduler sees it. The engine owns it, appends the tokens that steps sampled, and
// removes it from the scheduler before it dies.
struct Sequence {
  Sequence(kv::PagePool& pool, std::span<const int32_t> prompt, uint32_t max_length_in)
      : tokens(prompt.begin(), prompt.end()), max_length(max_length_in), table(pool) {}

  std::vector<int32_t> tokens;  // the prompt and what was generated
  uint32_t max_length;          // complete when it has this many tokens
  bool wants_rows = false;      // the engine reads the logits of the tokens it draws
  // Its reader is behind: takes no part in steps until cleared, and gives slot and pages to who wants them.
  bool paused = false;

  // The scheduler's.
  kv::BlockTable table;
  uint64_t arrival = 0;
  int32_t slot = -1;               // -1: waiting
  uint32_t n_submitted = 0;        // positions computed by steps that were planned
  uint32_t n_written = 0;          // ... by steps that have completed
  uint32_t samples_in_flight = 0;  // tokens that steps in flight will draw
};

// A step under way. It owns what its SequenceSteps point to.
struct Batch {
  struct Entry {
    Sequence* sequence;  // nullptr: ended or preempted meanwhile, the result is thrown away
    uint32_t slot, n_tokens;
    bool samples;
    uint32_t n_explicit, n_pages;  // of the storage; 0 tokens: the input is the one that the slot drew last
  };
  std::vector<Entry> entries;
  std::vector<device::SequenceStep> steps;  // same order
  std::vector<Sequence*> begun;             // admitted with this step: begin_sequence first
  uint32_t n_tokens = 0;
  std::vector<int32_t> token_storage;
  std::vector<uint32_t> page_storage;
};

class Scheduler {
 public:
  // pipeline_depth: how many planned steps may be uncompleted. With more than one, a step may be planned
  // whose input is a token that the step before it has yet to draw.
  Scheduler(kv::PagePool& pool, const device::ResolvedLimits& limits, uint32_t pipeline_depth);

  // Appends to the queue. REQUIRES the sequence fits the pool when alone.
  void add(Sequence* sequence);
  // Gives back its slot and pages at once. Safe at any time, also while a step computes it.
  void remove(Sequence* sequence);

  // Plans the next step of at most `max_tokens` tokens; nullptr when nothing can run or the pipeline is full.
  // The batch is in flight until complete() or drop() and owned by the scheduler.
  Batch* plan(uint32_t max_tokens);
  Batch& front() { return *in_flight_.front(); }
  uint32_t n_in_flight() const { return static_cast<uint32_t>(in_flight_.size()); }
  // The oldest batch is done: its pages may be found by others, its tokens are known to the caller, who
  // appends them to the sequences after this call.
  std::unique_ptr<Batch> complete();
  void forget_oldest() noexcept { in_flight_.pop_front(); }  // done, and nobody wants what it gave
  // The newest batch was never started.
  std::unique_ptr<Batch> drop_newest();

  uint32_t n_running() const { return static_cast<uint32_t>(running_.size()); }
  uint32_t n_waiting() const { return static_cast<uint32_t>(waiting_.size()); }
  uint32_t n_set_aside() const;  // of those that wait: for their reader, not for a slot
  uint64_t prefix_queries() const { return prefix_queries_; }  // tokens
  uint64_t prefix_hits() const { return prefix_hits_; }        // tokens
  uint64_t n_preemptions() const { return n_preemptions_; }

 private:
  void admit(Batch* batch);
  bool admit_one(Sequence* sequence, Batch* batch);
  bool make_room(Sequence* sequence, uint32_t n_positions);
  Sequence* idle_one() const;
  void preempt(Sequence* sequence);
  void release(Sequence* sequence);
  void enqueue(Sequence* sequence);
  void append(Batch* batch, Sequence* sequence, uint32_t n_tokens);
  int32_t free_slot() const;

  kv::PagePool& pool_;
  device::ResolvedLimits limits_;
  uint32_t depth_;
  uint64_t arrivals_ = 0, prefix_queries_ = 0, prefix_hits_ = 0, n_preemptions_ = 0;
  std::deque<Sequence*> waiting_;   // in order of arrival
  std::vector<Sequence*> running_;  // in order of arrival
  std::deque<std::unique_ptr<Batch>> in_flight_;
};

}  // namespace orcd::engine
