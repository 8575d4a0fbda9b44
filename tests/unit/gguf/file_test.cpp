#include "gguf/file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <thread>

#include "gguf/validate.h"
#include "support/gguf_writer.h"

namespace orcd::gguf {
namespace {

using test::Bytes;
using test::GgufWriter;
using test::put;
using test::small_model;

class Directory {
 public:
  Directory() {
    std::string pattern = (std::filesystem::temp_directory_path() / "orcd-gguf-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// The line of the refusal, "" when nothing is refused.
template <typename Call>
std::string refusal_of(Call call) {
  try {
    call();
    return "";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kModelLoadFailed);
    return error.line();
  }
}

std::string check(const Bytes& bytes) {
  return refusal_of([&] { validate(*File::parse(bytes)); });
}

Bytes counting(size_t n) {
  Bytes out(n);
  for (size_t i = 0; i < n; ++i) out[i] = static_cast<uint8_t>(i * 7 + i / 256);
  return out;
}

TEST(GgufFile, SmallModelIsAccepted) { EXPECT_EQ(check(small_model().bytes()), ""); }
TEST(GgufFile, Version2IsAccepted) { EXPECT_EQ(check(small_model().version(2).bytes()), ""); }
TEST(GgufFile, UnknownArchitectureIsAccepted) {
  EXPECT_EQ(check(small_model()
                      .add("general.architecture", "from-tomorrow")
                      .add("from-tomorrow.block_count", 2u)
                      .bytes()),
            "");
}

TEST(GgufFile, EveryValueTypeComesBack) {
  GgufWriter w;
  w.add("u8", uint8_t{200}).add("i8", int8_t{-100}).add("u16", uint16_t{60000}).add("i16", int16_t{-30000});
  w.add("u32", 4000000000u).add("i32", -2000000000).add("u64", ~uint64_t{0}).add("i64", int64_t{-1} << 62);
  w.add("f32", 1.5f).add("f64", -2.25).add("yes", true).add("no", false).add("s", "\xC3\xA9t\xC3\xA9");
  w.add("a8", std::vector<int8_t>{-1, 2})
      .add("af", std::vector<double>{0.5})
      .add("as", std::vector<std::string>{"x", ""});
  w.add("au", std::vector<uint64_t>{1ull << 40}).add("ai", std::vector<int64_t>{-5});
  const Bytes bytes = w.bytes();
  const auto file = File::parse(bytes);
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->need_uint("u8"), 200u);
  EXPECT_EQ(std::get<int64_t>(file->find("i8")->value), -100);
  EXPECT_EQ(file->need_uint("u16"), 60000u);
  EXPECT_EQ(std::get<int64_t>(file->find("i16")->value), -30000);
  EXPECT_EQ(file->need_uint("u32"), 4000000000u);
  EXPECT_EQ(std::get<int64_t>(file->find("i32")->value), -2000000000);
  EXPECT_EQ(file->need_uint("u64"), ~uint64_t{0});
  EXPECT_EQ(std::get<int64_t>(file->find("i64")->value), int64_t{-1} << 62);
  EXPECT_EQ(file->need_float("f32"), 1.5);
  EXPECT_EQ(file->need_float("f64"), -2.25);
  EXPECT_EQ(file->get_bool("yes"), true);
  EXPECT_EQ(file->get_bool("no"), false);
  EXPECT_EQ(file->need_string("s"), "\xC3\xA9t\xC3\xA9");
  EXPECT_EQ(file->need_array("a8").as_int(0), -1);
  EXPECT_EQ(file->need_array("a8").as_int(1), 2);
  EXPECT_EQ(file->need_array("af").as_double(0), 0.5);
  EXPECT_THAT(file->need_array("as").strings, testing::ElementsAre("x", ""));
  EXPECT_EQ(file->need_array("au").as_int(0), int64_t{1} << 40);
  EXPECT_EQ(file->need_array("ai").as_int(0), -5);
  EXPECT_EQ(file->metadata().size(), 18u);
  EXPECT_EQ(file->find("absent"), nullptr);
  EXPECT_EQ(file->get_uint("absent"), std::nullopt);
}

TEST(GgufFile, ArraysOfArraysComeBack) {
  Bytes raw;
  put(raw, uint32_t{9});
  put(raw, uint64_t{2});
  put(raw, uint32_t{0});
  put(raw, uint64_t{3});
  raw.insert(raw.end(), {1, 2, 3});
  put(raw, uint32_t{8});
  put(raw, uint64_t{1});
  test::put_string(raw, "in");
  const Bytes bytes = GgufWriter().add_raw("k", 9, raw).add("after", 7u).bytes();
  const auto file = File::parse(bytes);
  const Array& array = file->need_array("k");
  ASSERT_EQ(array.arrays.size(), 2u);
  EXPECT_EQ(array.arrays[0].as_int(2), 3);
  EXPECT_EQ(array.arrays[1].strings.at(0), "in");
  EXPECT_EQ(file->need_uint("after"), 7u);
}

TEST(GgufFile, GettersNameTheKeyAndItsOffsetWhenTheTypeIsWrong) {
  const GgufWriter w = small_model();
  const Bytes bytes = w.bytes();
  const auto file = File::parse(bytes);
  const std::string line = refusal_of([&] { file->get_uint("general.name"); });
  EXPECT_EQ(line, "MODEL_LOAD_FAILED: is of type string, expected an integer (field=general.name, offset=" +
                      std::to_string(w.at("general.name")) + ", file=memory)");
  EXPECT_THAT(refusal_of([&] { file->need_uint("absent.key"); }),
              testing::HasSubstr("field=absent.key, offset=24"));
}

TEST(GgufFile, TensorsAreFoundAndReadByTheirRange) {
  for (const uint32_t alignment : {8u, 32u, 64u, 4096u}) {
    const Bytes data = counting(400);
    GgufWriter w;
    w.alignment(alignment)
        .tensor("pad", TensorType::kF32, {3})
        .tensor("t", TensorType::kF32, {10, 2, 5, 1}, data);
    const Bytes bytes = w.bytes();
    const auto file = File::parse(bytes);
    const TensorInfo* tensor = file->find_tensor("t");
    ASSERT_NE(tensor, nullptr);
    EXPECT_EQ(tensor->n_elements(), 100u);
    EXPECT_EQ(tensor->n_bytes, 400u);
    EXPECT_EQ(tensor->offset % alignment, 0u);
    Bytes part(100);
    file->read(*tensor, 37, part);
    EXPECT_EQ(part, Bytes(data.begin() + 37, data.begin() + 137));
    EXPECT_THROW(file->read(*tensor, 301, part), Error);
    EXPECT_THROW(file->read(*tensor, ~uint64_t{0}, part), Error);
  }
}

TEST(GgufFile, TruncatedAtAnyByteIsRefused) {
  const Bytes bytes = small_model().bytes();
  for (size_t n = 0; n < bytes.size(); ++n) {
    const Bytes shorter(bytes.begin(), bytes.begin() + static_cast<long>(n));
    EXPECT_NE(check(shorter), "") << n;
  }
}

TEST(GgufFile, NoFlippedBitOfTheHeaderCrashes) {
  const GgufWriter w = small_model();
  const Bytes bytes = w.bytes();
  const uint64_t header = w.at("header end");
  size_t n_refused = 0;
  for (size_t i = 0; i < header; ++i) {
    for (const uint8_t mask : {0x01, 0x10, 0x80, 0xFF}) {
      Bytes flipped = bytes;
      flipped[i] ^= mask;
      n_refused += check(flipped).empty() ? 0 : 1;
    }
  }
  EXPECT_GT(n_refused, header);  // at least a quarter of all
}

TEST(GgufFile, HugeClaimsAreRefusedWithoutWork) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < 1000; ++i) {
    Bytes raw;
    put(raw, uint32_t{8});
    put(raw, uint64_t{1} << 60);
    EXPECT_NE(check(GgufWriter().add_raw("k", 9, raw).bytes()), "");
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(GgufFile, HeaderLargerThanTheFirstReadsIsReadWhole) {
  const Directory dir;
  std::vector<std::string> texts;
  for (int i = 0; i < 300000; ++i) texts.push_back("a text of some length, number " + std::to_string(i));
  GgufWriter w;
  w.add("texts", texts).tensor("t", TensorType::kF32, {8}, counting(32));
  w.write(dir / "big.gguf");
  const auto file = File::open(dir / "big.gguf");
  const Array& array = file->need_array("texts");
  EXPECT_EQ(array.strings.at(299999), texts.back());
  EXPECT_EQ(file->offset_of(array.strings[0].data()), w.at("texts") + 12 + 8);
  Bytes data(32);
  file->read(file->tensors()[0], 0, data);
  EXPECT_EQ(data, counting(32));
}

TEST(GgufFile, TruncatedWhileOpenIsAnErrorNotASignal) {
  const Directory dir;
  const std::string path = dir / "m.gguf";
  GgufWriter w = small_model();
  w.tensor("last", TensorType::kF32, {1024}, counting(4096));
  w.write(path);
  const auto file = File::open(path);
  const TensorInfo& tensor = *file->find_tensor("last");
  ASSERT_EQ(truncate(path.c_str(), static_cast<off_t>(tensor.offset + 1000)), 0);
  Bytes data(4096);
  const std::string line = refusal_of([&] { file->read(tensor, 0, data); });
  EXPECT_THAT(line, testing::HasSubstr("field=last, offset=" + std::to_string(tensor.offset + 1000)));
  Bytes head(1000);
  file->read(tensor, 0, head);
  EXPECT_EQ(file->need_string("general.name"), "small");
}

TEST(GgufFile, ReadsFromManyThreads) {
  const Directory dir;
  const Bytes data = counting(1 << 18);
  GgufWriter().tensor("t", TensorType::kI8, {1 << 18}, data).write(dir / "t.gguf");
  const auto file = File::open(dir / "t.gguf");
  std::atomic<int> n_equal = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Bytes part(1 << 16);
      file->read(file->tensors()[0], t << 16, part);
      n_equal += std::equal(part.begin(), part.end(), data.begin() + static_cast<long>(t << 16)) ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(n_equal, 4);
}

TEST(GgufFile, PathsThatAreNoModelAreRefusedWithTheReason) {
  const Directory dir;
  EXPECT_THAT(refusal_of([&] { File::open(dir / "none.gguf"); }), testing::HasSubstr("No such file"));
  EXPECT_THAT(refusal_of([&] { File::open(dir / "."); }), testing::HasSubstr("directory"));
  EXPECT_THAT(refusal_of([&] { File::open("/dev/zero"); }), testing::HasSubstr("not a regular file"));
  GgufWriter::write_file(dir / "empty.gguf", {});
  EXPECT_THAT(refusal_of([&] { File::open(dir / "empty.gguf"); }),
              testing::HasSubstr("field=magic, offset=0"));
  ASSERT_EQ(mkfifo((dir / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(refusal_of([&] { File::open(dir / "pipe"); }), testing::HasSubstr("not a regular file"));
}

TEST(GgufFile, MessagesCarryNoControlCharacters) {
  GgufWriter w;
  w.add_raw("evil\x1b[2J\n", 99, {});
  const std::string line = check(w.bytes());
  EXPECT_THAT(line, testing::HasSubstr("evil\\x1b[2J\\x0a.type"));
}

TEST(GgufSplit, AnyPartOpensTheWholeSet) {
  const Directory dir;
  GgufWriter w = small_model();
  w.tensor("last", TensorType::kF32, {64}, counting(256));
  const auto paths = w.write_split(dir / "m", 3);
  for (const std::string& path : paths) {
    const auto file = File::open(path);
    EXPECT_EQ(file->n_parts(), 3u);
    EXPECT_EQ(file->path(), paths[0]);
    EXPECT_EQ(file->tensors().size(), 5u);
    EXPECT_EQ(file->find_tensor("last")->part, 2u);
    Bytes data(256);
    file->read(*file->find_tensor("last"), 0, data);
    EXPECT_EQ(data, counting(256));
    EXPECT_EQ(refusal_of([&] { validate(*file); }), "");
  }
}

TEST(GgufSplit, MissingRenamedAndForeignPartsAreRefused) {
  const Directory dir;
  const auto paths = small_model().write_split(dir / "m", 3);
  std::filesystem::rename(paths[1], dir / "kept");
  EXPECT_THAT(refusal_of([&] { File::open(paths[0]); }), testing::HasSubstr("m-00002-of-00003.gguf"));
  std::filesystem::copy_file(paths[2], paths[1]);
  EXPECT_THAT(refusal_of([&] { File::open(paths[0]); }), testing::HasSubstr("field=split.no"));
  std::filesystem::copy_file(dir / "kept", paths[1], std::filesystem::copy_options::overwrite_existing);
  EXPECT_EQ(refusal_of([&] { File::open(paths[0]); }), "");
  std::filesystem::copy_file(paths[0], dir / "other.gguf");
  EXPECT_THAT(refusal_of([&] { File::open(dir / "other.gguf"); }), testing::HasSubstr("field=split.count"));
  std::filesystem::copy_file(paths[0], dir / "x-00001-of-00002.gguf");
  EXPECT_THAT(refusal_of([&] { File::open(dir / "x-00001-of-00002.gguf"); }),
              testing::HasSubstr("field=split.count"));
  GgufWriter short_set = small_model();
  short_set.add("split.no", uint16_t{0})
      .add("split.count", uint16_t{1})
      .add("split.tensors.count", int32_t{9});
  short_set.write(dir / "y-00001-of-00001.gguf");
  EXPECT_THAT(refusal_of([&] { File::open(dir / "y-00001-of-00001.gguf"); }),
              testing::HasSubstr("field=split.tensors.count"));
}

TEST(GgufSplit, NamesThatOnlyLookLikePartsAreWholeFiles) {
  const Directory dir;
  for (const char* name : {"m-0000x-of-00003.gguf", "m-0000:-of-00003.gguf", "m-00001-of-0000x.gguf",
                           "m-00000-of-00003.gguf", "m-00004-of-00003.gguf", "m-00001-of-00003.ggux",
                           "m-00001-in-00003.gguf", "mx00001-of-00003.gguf", "-00001-of-00001.gguf"}) {
    small_model().write(dir / name);
    EXPECT_EQ(refusal_of([&] { EXPECT_EQ(File::open(dir / name)->n_parts(), 1u); }), "") << name;
  }
  GgufWriter one = small_model();
  one.add("split.count", uint16_t{1}).write(dir / "one.gguf");
  EXPECT_EQ(refusal_of([&] { File::open(dir / "one.gguf"); }), "");
  GgufWriter negative = small_model(), text = small_model();
  negative.add("split.count", int32_t{-1}).write(dir / "negative.gguf");
  text.add("split.count", "two").write(dir / "text.gguf");
  EXPECT_THAT(refusal_of([&] { File::open(dir / "negative.gguf"); }),
              testing::HasSubstr("field=split.count"));
  EXPECT_THAT(refusal_of([&] { File::open(dir / "text.gguf"); }), testing::HasSubstr("field=split.count"));
}

TEST(GgufSplit, TheSameTensorInTwoPartsIsRefused) {
  const Directory dir;
  small_model().write(dir / "m-00001-of-00002.gguf");
  small_model().write(dir / "m-00002-of-00002.gguf");
  EXPECT_THAT(refusal_of([&] { File::open(dir / "m-00001-of-00002.gguf"); }),
              testing::HasSubstr("field=token_embd.weight"));
}

TEST(GgufValidate, NamesOfChatTemplatesAreStrings) {
  const std::string key = "tokenizer.chat_templates";
  EXPECT_EQ(check(small_model().add(key, std::vector<std::string>{"rag"}).bytes()), "");
  EXPECT_EQ(check(small_model().add(key, std::vector<std::string>{}).bytes()), "");
  EXPECT_EQ(check(small_model().add(key, std::vector<int32_t>{}).bytes()), "");
  EXPECT_THAT(check(small_model().add(key, std::vector<int32_t>{1}).bytes()),
              testing::HasSubstr("field=" + key));
}

TEST(GgufFile, IntegersOfEveryWidthComeOutOfArraysAndOthersDoNot) {
  GgufWriter w = small_model();
  w.add("x.u16", std::vector<uint16_t>{65535}).add("x.i16", std::vector<int16_t>{-2});
  w.add("x.f64", std::vector<double>{0.5}).add("x.text", std::vector<std::string>{"a"});
  const Bytes bytes = w.bytes();
  const auto file = File::parse(bytes);
  EXPECT_EQ(file->need_array("x.u16").as_int(0), 65535);
  EXPECT_EQ(file->need_array("x.i16").as_int(0), -2);
  EXPECT_EQ(file->need_array("x.f64").as_double(0), 0.5);
  EXPECT_THROW(file->need_array("x.f64").as_int(0), Error);
  EXPECT_THROW(file->need_array("x.text").as_double(0), Error);
  EXPECT_THROW(file->need_array("x.text").as_bool(0), Error);
}

TEST(GgufValidate, PaddedEmbeddingRowsAreFine) {
  GgufWriter w = small_model();
  w.tensor("spare", TensorType::kF32, {1});
  EXPECT_EQ(check(w.bytes()), "");
  GgufWriter padded;
  padded.add("general.architecture", "x").add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "a"});
  padded.tensor("token_embd.weight", TensorType::kF32, {32, 64});
  EXPECT_EQ(check(padded.bytes()), "");
}

TEST(GgufValidate, VocabularyOnlyFilesPass) {
  GgufWriter w;
  w.add("general.architecture", "gpt2").add("gpt2.block_count", 12u).add("tokenizer.ggml.model", "gpt2");
  w.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "\xC4\xA0",
                                                          "\xC4\xA0"
                                                          "a",
                                                          "  "});
  w.add("tokenizer.ggml.merges", std::vector<std::string>{"\xC4\xA0 a", "\xC4\xA0\xC4\xA0 a"});
  EXPECT_EQ(check(w.bytes()), "");
}

TEST(GgufValidate, LayersWithoutHeadsOfHybridAndRecurrentModelsPass) {
  EXPECT_EQ(check(small_model().add("llama.attention.head_count_kv", std::vector<uint32_t>{2, 0}).bytes()),
            "");
  EXPECT_EQ(check(small_model()
                      .add("llama.ssm.state_size", 16u)
                      .add("llama.attention.head_count", 0u)
                      .add("llama.attention.head_count_kv", 0u)
                      .add("llama.feed_forward_length", 0u)
                      .bytes()),
            "");
}

TEST(GgufValidate, PredictionLayersMayBeLeftOut) {
  EXPECT_NE(check(small_model().add("llama.block_count", 3u).bytes()), "");
  EXPECT_EQ(check(small_model().add("llama.block_count", 3u).add("llama.nextn_predict_layers", 1u).bytes()),
            "");
}

TEST(GgufValidate, ModelWithoutAnyOfItsLayersIsRefused) {
  GgufWriter w;
  w.add("general.architecture", "llama")
      .add("llama.block_count", 2u)
      .tensor("token_embd.weight", TensorType::kF32, {8, 8});
  EXPECT_THAT(check(w.bytes()), testing::HasSubstr("field=llama.block_count"));
}

}  // namespace
}  // namespace orcd::gguf
