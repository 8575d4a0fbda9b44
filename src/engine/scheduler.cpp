#include "engine/scheduler.h"

#include <algorithm>

namespace orcd::engine {
namespace {

bool arrived_before(const Sequence* a, const Sequence* b) { return a->arrival < b->arrival; }

// Tokens that may be submitted next: known ones, or the one that a step in flight will draw.
uint32_t n_ready(const Sequence& s) {
  const auto known = static_cast<uint32_t>(s.tokens.size());
  const uint32_t expected = known + s.samples_in_flight;
  return expected >= s.max_length && s.samples_in_flight > 0 ? 0 : expected - s.n_submitted;
}

}  // namespace

Scheduler::Scheduler(kv::PagePool& pool, const device::ResolvedLimits& limits, uint32_t pipeline_depth)
    : pool_(pool), limits_(limits), depth_(pipeline_depth) {}

void Scheduler::add(Sequence* sequence) {
  sequence->arrival = arrivals_++;
  enqueue(sequence);
}

void Scheduler::enqueue(Sequence* sequence) {
  waiting_.insert(std::upper_bound(waiting_.begin(), waiting_.end(), sequence, arrived_before), sequence);
}

void Scheduler::release(Sequence* sequence) {
  sequence->table.clear();
  sequence->slot = -1;
  sequence->n_submitted = sequence->n_written = sequence->samples_in_flight = 0;
  for (const auto& batch : in_flight_) {
    for (Batch::Entry& entry : batch->entries) {
      if (entry.sequence == sequence) entry.sequence = nullptr;
    }
  }
  std::erase(running_, sequence);
}

void Scheduler::remove(Sequence* sequence) {
  release(sequence);
  std::erase(waiting_, sequence);
}

// What a step in flight still draws for it is thrown away too: recomputed, it is the same token.
void Scheduler::preempt(Sequence* sequence) {
  release(sequence);
  ++n_preemptions_;
  enqueue(sequence);
}

// The youngest that holds a slot while its reader is behind; not one that a step under way computes, whose
// slot would not be free at once.
Sequence* Scheduler::idle_one() const {
  const auto found = std::find_if(running_.rbegin(), running_.rend(), [](const Sequence* s) {
    return s->paused && s->n_written == s->n_submitted;
  });
  return found == running_.rend() ? nullptr : *found;
}

uint32_t Scheduler::n_set_aside() const {
  return static_cast<uint32_t>(std::ranges::count_if(waiting_, [](const Sequence* s) { return s->paused; }));
}

int32_t Scheduler::free_slot() const {
  std::vector<bool> taken(limits_.slots);
  for (const Sequence* s : running_) taken[static_cast<size_t>(s->slot)] = true;
  for (const auto& batch : in_flight_) {
    for (const Batch::Entry& entry : batch->entries) taken[entry.slot] = true;
  }
  const auto found = std::find(taken.begin(), taken.end(), false);
  return found == taken.end() ? -1 : static_cast<int32_t>(found - taken.begin());
}

bool Scheduler::admit_one(Sequence* sequence, Batch* batch) {
  const int32_t slot = free_slot();
  if (slot < 0) return false;
  const auto length = static_cast<uint32_t>(sequence->tokens.size());
  const uint32_t hit = sequence->table.adopt_prefix(sequence->tokens);
  // All pages of the prompt at once, and one left for each running sequence: who is admitted is not preempted
  // by the next page boundary.
  const uint64_t spare = running_.size();
  const uint64_t wanted = kv::pages_for(std::min(length + 1, sequence->max_length));
  const uint64_t have = sequence->table.pages().size();
  const uint64_t missing = wanted > have ? wanted - have : 0;
  if (missing + spare > pool_.n_available() || !sequence->table.grow(length)) {
    sequence->table.clear();
    return false;
  }
  prefix_queries_ += length;
  prefix_hits_ += hit;
  sequence->slot = slot;
  sequence->n_submitted = sequence->n_written = hit;
  running_.insert(std::upper_bound(running_.begin(), running_.end(), sequence, arrived_before), sequence);
  batch->begun.push_back(sequence);
  return true;
}

// Strictly in order of arrival, but for those whose reader is behind.
void Scheduler::admit(Batch* batch) {
  const auto is_next = [](const Sequence* s) { return !s->paused; };
  while (true) {
    const auto next = std::ranges::find_if(waiting_, is_next);
    if (next == waiting_.end()) return;
    if (admit_one(*next, batch)) {
      waiting_.erase(next);
    } else if (Sequence* idle = idle_one()) {
      preempt(idle);
    } else {
      return;
    }
  }
}

// Grows the table, preempting those whose reader is behind, then the youngest, until it can; false when the
// sequence itself was the youngest.
bool Scheduler::make_room(Sequence* sequence, uint32_t n_positions) {
  while (!sequence->table.grow(n_positions)) {
    Sequence* idle = idle_one();
    Sequence* victim = idle ? idle : running_.back();
    preempt(victim);
    if (victim == sequence) return false;
  }
  return true;
}

void Scheduler::append(Batch* batch, Sequence* s, uint32_t n_tokens) {
  const auto known = static_cast<uint32_t>(s->tokens.size());
  device::SequenceStep step;
  step.slot = static_cast<uint32_t>(s->slot);
  step.first_position = s->n_submitted;
  step.sample = s->n_submitted + n_tokens >= known;
  step.logits = step.sample ? device::LogitsMode::kLast : device::LogitsMode::kNone;
  step.want_rows = step.sample && s->wants_rows;
  Batch::Entry entry{s, step.slot, n_tokens, step.sample, 0, 0};
  if (s->n_submitted < known) {
    entry.n_explicit = n_tokens;
    const auto begin = s->tokens.begin() + s->n_submitted;
    batch->token_storage.insert(batch->token_storage.end(), begin, begin + n_tokens);
  }
  const auto pages = s->table.pages().first(kv::pages_for(uint64_t{s->n_submitted} + n_tokens));
  batch->page_storage.insert(batch->page_storage.end(), pages.begin(), pages.end());
  entry.n_pages = static_cast<uint32_t>(pages.size());
  batch->entries.push_back(entry);
  batch->steps.push_back(step);
  batch->n_tokens += n_tokens;
  s->n_submitted += n_tokens;
  if (step.sample) ++s->samples_in_flight;
}

Batch* Scheduler::plan(uint32_t max_tokens) {
  if (in_flight_.size() >= depth_ || (running_.empty() && waiting_.empty())) return nullptr;
  auto batch = std::make_unique<Batch>();
  const uint32_t budget = std::clamp(max_tokens, 1u, limits_.batch_tokens);
  uint32_t n_rows = 0;
  const auto room = [&] { return batch->n_tokens < budget && n_rows < limits_.logits_rows; };

  // Decode first.
  for (size_t i = 0; i < running_.size() && room(); ++i) {
    Sequence* s = running_[i];
    if (s->paused || n_ready(*s) != 1) continue;
    if (!make_room(s, s->n_submitted + 1)) break;
    i = static_cast<size_t>(std::ranges::find(running_, s) -
                            running_.begin());  // some before it may have left
    append(batch.get(), s, 1);
    ++n_rows;
  }
  admit(batch.get());
  for (size_t i = 0; i < running_.size() && room(); ++i) {
    Sequence* s = running_[i];
    const uint32_t ready = n_ready(*s);
    const bool in_batch = std::any_of(batch->entries.begin(), batch->entries.end(),
                                      [&](const Batch::Entry& e) { return e.sequence == s; });
    if (s->paused || ready == 0 || in_batch) continue;
    append(batch.get(), s, std::min(ready, budget - batch->n_tokens));
    if (batch->entries.back().samples) ++n_rows;
  }
  if (batch->entries.empty()) return nullptr;

  // The storage no longer moves.
  const int32_t* tokens = batch->token_storage.data();
  const uint32_t* pages = batch->page_storage.data();
  for (size_t i = 0; i < batch->steps.size(); ++i) {
    const Batch::Entry& entry = batch->entries[i];
    batch->steps[i].tokens = {tokens, entry.n_explicit};
    batch->steps[i].pages = {pages, entry.n_pages};
    tokens += entry.n_explicit;
    pages += entry.n_pages;
  }
  return in_flight_.emplace_back(std::move(batch)).get();
}

std::unique_ptr<Batch> Scheduler::complete() {
  std::unique_ptr<Batch> batch = std::move(in_flight_.front());
  in_flight_.pop_front();
  for (const Batch::Entry& entry : batch->entries) {
    Sequence* s = entry.sequence;
    if (s == nullptr) continue;
    s->n_written += entry.n_tokens;
    if (entry.samples) --s->samples_in_flight;
    const size_t n_known = std::min<size_t>(s->n_written, s->tokens.size());
    s->table.publish(std::span(s->tokens).first(n_known));
  }
  return batch;
}

std::unique_ptr<Batch> Scheduler::drop_newest() {
  std::unique_ptr<Batch> batch = std::move(in_flight_.back());
  in_flight_.pop_back();
  return batch;
}

}  // namespace orcd::engine
