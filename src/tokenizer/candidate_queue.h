// The queue of possible merges, smallest key first. Most candidates are known at the start, or come in order:
// those are sorted once and walked through, and only what comes in between goes through a heap. Twice as fast
// as a heap alone.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <vector>

namespace orcd::tokenizer {

// Item: has an unsigned `key`, unique among the candidates that are still valid, and operator> by it.
template <typename Item>
class CandidateQueue {
 public:
  // Before the first pop: any number of candidates in any order.
  explicit CandidateQueue(std::vector<Item> initial) : run_(std::move(initial)) { sort_run(); }

  void push(const Item& item) {
    heap_.push_back(item);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
  }

  // Takes the smallest candidate; false when there is none.
  bool pop(Item& item) {
    if (at_ == run_.size()) {
      if (heap_.empty()) return false;
      run_.swap(heap_);
      heap_.clear();
      at_ = 0;
      sort_run();
    }
    if (!heap_.empty() && run_[at_] > heap_.front()) {
      item = heap_.front();
      std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
      heap_.pop_back();
    } else {
      item = run_[at_++];
    }
    return true;
  }

 private:
  void sort_run() {
    const auto by_key = [](const Item& a, const Item& b) { return b > a; };
    if (!std::is_sorted(run_.begin(), run_.end(), by_key)) std::sort(run_.begin(), run_.end(), by_key);
  }

  std::vector<Item> run_;  // ascending; those before at_ are taken
  size_t at_ = 0;
  std::vector<Item> heap_;
};

}  // namespace orcd::tokenizer
