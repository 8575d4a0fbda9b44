#include "model/spec.h"

#include "model/adapters/registry.h"

namespace orcd::model {

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
