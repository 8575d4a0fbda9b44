#include "model/spec.h"

#include "model/adapters/registry.h"

namespace orcd::model {

numerics::RopeParams rope_params(const RopeSpec& spec) {
  numerics::RopeParams params;
  params.n_dims = spec.n_dims;
  params.base = spec.base;
  params.scale = spec.scale;
  params.freq_factors = spec.freq_factors;
  params.yarn_factor = spec.yarn_factor;
  params.yarn_original_ctx = spec.yarn_original_ctx;
  params.yarn_beta_fast = spec.yarn_beta_fast;
  params.yarn_beta_slow = spec.yarn_beta_slow;
  params.yarn_attention_factor = spec.yarn_attention_factor;
  params.yarn_rounded = spec.yarn_rounded;
  return params;
}

ModelSpec read_spec(std::shared_ptr<const gguf::File> file) {
  const Reader reader(file);
  const std::string_view architecture = file->need_string("general.architecture");
  std::string known;
  for (const Adapter& adapter : adapters()) {
    if (adapter.architecture == architecture) {
      ModelSpec spec = adapter.read(reader);
      reader.refuse_unread(spec);
      return spec;
    }
    known += (known.empty() ? "" : ", ") + std::string(adapter.architecture);
  }
  throw gguf::load_error(*file, "general.architecture", file->find("general.architecture")->value_offset,
                         "no adapter for architecture '" + std::string(architecture) + "'",
                         "known: " + known);
}

}  // namespace orcd::model
