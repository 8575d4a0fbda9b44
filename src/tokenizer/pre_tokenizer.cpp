#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/pre_tokenizer.h"

#include <pcre2.h>

#include <algorithm>
#include <array>
#include <mutex>
#include <new>
#include <utility>

#include "base/error.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"

namespace orcd::tokenizer {
namespace {

struct Free {
  void operator()(pcre2_code* p) const { pcre2_code_free(p); }
  void operator()(pcre2_match_data* p) const { pcre2_match_data_free(p); }
  void operator()(pcre2_match_context* p) const { pcre2_match_context_free(p); }
  void operator()(pcre2_jit_stack* p) const { pcre2_jit_stack_free(p); }
};
using Code = std::unique_ptr<pcre2_code, Free>;

std::string error_text(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

// What running an expression needs.
struct Workspace {
  std::unique_ptr<pcre2_match_data, Free> data{pcre2_match_data_create(1, nullptr)};
  std::unique_ptr<pcre2_match_context, Free> context{pcre2_match_context_create(nullptr)};
  std::unique_ptr<pcre2_jit_stack, Free> stack{pcre2_jit_stack_create(32 * 1024, 64 * 1024 * 1024, nullptr)};
  Workspace() {
    if (!data || !context) throw std::bad_alloc();
    // A run of a million characters is legitimate; the expressions are ours, or were vetted at load.
    pcre2_set_match_limit(context.get(), UINT32_MAX);
    pcre2_set_depth_limit(context.get(), UINT32_MAX);
    pcre2_set_heap_limit(context.get(), UINT32_MAX);
    if (stack) pcre2_jit_stack_assign(context.get(), nullptr, stack.get());
  }
};

// Workspaces that no text is using: as many as there were texts at once. They belong to an expression and to
// no thread: destructors of a thread would keep the library of the C ABI in memory for as long as it lives.
class WorkspacePool {
 public:
  std::unique_ptr<Workspace> take() {
    {
      std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        std::unique_ptr<Workspace> workspace = std::move(idle_.back());
        idle_.pop_back();
        return workspace;
      }
    }
    return std::make_unique<Workspace>();
  }
  void give_back(std::unique_ptr<Workspace> workspace) noexcept {
    try {
      std::lock_guard lock(mutex_);
      idle_.push_back(std::move(workspace));
    } catch (const std::bad_alloc&) {  // it is freed, and the next text makes its own
    }
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

// A workspace for one text, which has many pieces.
class Lease {
 public:
  explicit Lease(WorkspacePool& pool) : pool_(pool), workspace_(pool.take()) {}
  ~Lease() { pool_.give_back(std::move(workspace_)); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  Workspace& operator*() { return *workspace_; }

 private:
  WorkspacePool& pool_;
  std::unique_ptr<Workspace> workspace_;
};

// Calls `see(begin, end)` for every match in text[first, last). Lookarounds see that stretch only.
template <typename See>
void each_match(Workspace& workspace, const pcre2_code* code, std::string_view text, size_t first,
                size_t last, See&& see) {
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data()) + first;
  const size_t length = last - first;
  size_t from = 0;
  size_t last_end = std::string_view::npos;
  while (from <= length) {
    const int rc = pcre2_match(code, subject, length, from, 0, workspace.data.get(), workspace.context.get());
    if (rc == PCRE2_ERROR_NOMATCH) return;
    if (rc < 0) {
      throw Error(ErrorCode::kInternal, "pre-tokenizer expression failed on a text",
                  {{"reason", error_text(rc)}, {"n_characters", uint64_t{length}}});
    }
    const size_t* match = pcre2_get_ovector_pointer(workspace.data.get());
    const size_t begin = match[0];
    const size_t end = std::max(match[0], match[1]);
    if (end > begin || end != last_end) see(first + begin, first + end);
    last_end = end;
    from = end > begin ? end : end + 1;
  }
}

// Cuts text[begin, end) into matches and the gaps between them; an empty match cuts, too.
void cut(Workspace& workspace, const pcre2_code* code, std::string_view text, size_t begin, size_t end,
         std::vector<size_t>& ends) {
  size_t at = begin;  // end of the last piece
  const auto end_piece = [&](size_t place) {
    if (place > at) ends.push_back(at = place);
  };
  each_match(workspace, code, text, begin, end, [&](size_t match_begin, size_t match_end) {
    end_piece(match_begin);
    end_piece(match_end);
  });
  end_piece(end);
}

// One byte for each character of the text, and how many bytes of text it stands for ("": one each).
struct Classes {
  std::string classes, widths;
};

Classes classes_of(const ClassAlphabet& alphabet, std::string_view text) {
  Classes out{std::string(text.size(), '\0'), {}};
  size_t n = 0;
  size_t at = 0;
  while (at < text.size() && static_cast<uint8_t>(text[at]) < 0x80) out.classes[n++] = text[at++];
  if (at == text.size()) return out;
  out.widths.assign(text.size(), '\1');
  while (at < text.size()) {
    const Utf8Char c = decode_utf8(text.substr(at));
    const bool valid = c.status == Utf8Status::kValid;
    out.widths[n] = static_cast<char>(valid ? c.n_bytes : 1);
    out.classes[n] = static_cast<char>(valid ? alphabet.class_of(c.code_point) : ClassAlphabet::kInvalid);
    at += valid ? c.n_bytes : 1;
    ++n;
  }
  out.classes.resize(n);
  return out;
}

// Offsets in characters, asked in ascending order, to offsets in bytes.
class ByteOffsets {
 public:
  explicit ByteOffsets(const std::string& widths) : widths_(&widths) {}
  size_t of(size_t character) {
    if (widths_->empty()) return character;
    for (; at_ < character; ++at_) offset_ += static_cast<uint8_t>((*widths_)[at_]);
    return offset_;
  }

 private:
  const std::string* widths_;
  size_t at_ = 0, offset_ = 0;
};

}  // namespace

struct PreTokenizer::State {
  ClassAlphabet alphabet;
  std::vector<Code> stages;
  std::vector<Code> byte_stages;
  std::array<char, 256> byte_classes{};
  mutable WorkspacePool pool;
};

namespace {

Code compile(const std::string& expression) {
  int error = 0;
  size_t offset = 0;
  const std::string text = "(*LF)" + expression;
  Code code(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, &error, &offset, nullptr));
  if (!code) {
    throw Error(
        ErrorCode::kModelLoadFailed, "pre-tokenizer expression is malformed: " + error_text(error),
        {{"field", std::string("pre_tokenizer")}, {"pattern", expression}, {"position", uint64_t{offset}}});
  }
  // Without just-in-time compilation on this machine the interpreter gives the same matches, only slower.
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
  return code;
}

// Ascending ends of the pieces of `classes`, narrowed by each stage.
void run_stages(WorkspacePool& pool, const std::vector<Code>& stages, std::string_view classes,
                std::vector<size_t>& cuts) {
  Lease workspace(pool);
  std::vector<size_t> next;
  for (const Code& stage : stages) {
    next.clear();
    size_t begin = 0;
    for (const size_t end : cuts) {
      cut(*workspace, stage.get(), classes, begin, end, next);
      begin = end;
    }
    cuts.swap(next);
  }
}

}  // namespace

PreTokenizer::PreTokenizer(std::span<const std::string_view> patterns,
                           std::span<const std::string_view> byte_patterns) {
  std::vector<std::string_view> all(patterns.begin(), patterns.end());
  all.insert(all.end(), byte_patterns.begin(), byte_patterns.end());
  CompiledPatterns compiled = compile_patterns(all);
  auto state = std::make_unique<State>();
  state->alphabet = std::move(compiled.alphabet);
  for (size_t i = 0; i < compiled.expressions.size(); ++i) {
    auto& stages = i < patterns.size() ? state->stages : state->byte_stages;
    stages.push_back(compile(compiled.expressions[i]));
  }
  constexpr auto kAlphabet = byte_level_alphabet();
  for (size_t byte = 0; byte < 256; ++byte)
    state->byte_classes[byte] = static_cast<char>(state->alphabet.class_of(kAlphabet[byte]));
  state_ = std::move(state);
}

PreTokenizer::~PreTokenizer() = default;

void PreTokenizer::split(std::string_view text, std::vector<size_t>& ends) const {
  if (text.empty()) return;
  const size_t first = ends.size();
  split_characters(text, ends);
  if (state_->byte_stages.empty()) return;
  std::string classes(text);
  for (char& c : classes) c = state_->byte_classes[static_cast<uint8_t>(c)];
  std::vector<size_t> cuts(ends.begin() + static_cast<std::ptrdiff_t>(first), ends.end());
  run_stages(state_->pool, state_->byte_stages, classes, cuts);
  ends.resize(first);
  ends.insert(ends.end(), cuts.begin(), cuts.end());
}

void PreTokenizer::split_characters(std::string_view text, std::vector<size_t>& ends) const {
  const auto [classes, widths] = classes_of(state_->alphabet, text);
  std::vector<size_t> cuts{classes.size()};
  run_stages(state_->pool, state_->stages, classes, cuts);
  ByteOffsets offsets(widths);
  ends.reserve(ends.size() + cuts.size());
  for (const size_t end : cuts) ends.push_back(offsets.of(end));
}

struct PatternFinder::State {
  ClassAlphabet alphabet;
  Code code;
  mutable WorkspacePool pool;
};

PatternFinder::PatternFinder(std::string_view pattern) {
  CompiledPatterns compiled = compile_patterns(std::span(&pattern, 1));
  auto state = std::make_unique<State>();
  state->alphabet = std::move(compiled.alphabet);
  state->code = compile(compiled.expressions[0]);
  state_ = std::move(state);
}

PatternFinder::~PatternFinder() = default;

std::vector<PatternFinder::Match> PatternFinder::find(std::string_view text) const {
  const auto [classes, widths] = classes_of(state_->alphabet, text);
  std::vector<Match> matches;
  ByteOffsets offsets(widths);
  Lease workspace(state_->pool);
  each_match(*workspace, state_->code.get(), classes, 0, classes.size(), [&](size_t begin, size_t end) {
    const size_t first = offsets.of(begin);
    matches.push_back({first, offsets.of(end)});
  });
  return matches;
}

}  // namespace orcd::tokenizer
