// One greedy generation through the C++ wrapper:
//
//   c++ -std=c++17 -I include examples/cpp/generate.cpp -L build/release/lib -lorcd -o generate
//   LD_LIBRARY_PATH=build/release/lib ./generate MODEL.gguf "The sky is" 16
//
// Prints the text as it comes, then the ids and the digest of the logits they were drawn from.
#include <cstdlib>
#include <iostream>

#include "orcd/orcd.hpp"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: " << argv[0] << " MODEL.gguf PROMPT MAX_TOKENS\n";
    return 2;
  }
  try {
    orcd::abi::Context context;
    orcd_model_options where = orcd::abi::model_options();
    where.path = argv[1];
    where.device = "cpu";  // or "cuda:0": there is no default
    std::cerr << context.plan(where).total_bytes << " bytes on " << where.device << "\n";
    orcd::abi::Model model = context.load(where);

    orcd_generation_options options = orcd::abi::generation_options();
    options.max_tokens = static_cast<uint32_t>(std::strtoul(argv[3], nullptr, 10));
    options.temperature = 0;
    orcd::abi::Generation generation = model.start(argv[2], options);
    std::vector<int32_t> ids;
    while (const auto token = generation.next()) {
      std::cout << token->text << std::flush;
      if (token->id != ORCD_NO_TOKEN) ids.push_back(token->id);
    }
    std::cout << "\ntokens:";
    for (const int32_t id : ids) std::cout << ' ' << id;
    std::cout << "\nlogits: " << generation.result().logits_digest << "\n";
  } catch (const orcd::abi::Error& error) {
    std::cerr << orcd::abi::status_name(error.status()) << ": " << error.what() << "; " << error.hint()
              << "\n";
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
