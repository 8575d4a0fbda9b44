#include "jinja/template.h"

#include "jinja/parser.h"
#include "jinja/renderer.h"

namespace orcd::jinja {

struct Template::Tree {
  Body body;
};

Template::Template(std::string_view source) : tree_(std::make_unique<const Tree>(Tree{parse(source)})) {}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;

std::string Template::render(const Dict& variables, std::chrono::system_clock::time_point now,
                             const RenderLimits& limits) const {
  Renderer renderer(variables, now, limits);
  try {
    return renderer.run(tree_->body);
  } catch (const TemplateFailure& failure) {
    const Position at = renderer.at();
    throw Error(
        ErrorCode::kInvalidRequest, "the model's chat template: " + failure.message,
        {{"param", std::string("messages")}, {"line", uint64_t{at.line}}, {"column", uint64_t{at.column}}},
        "the messages must have the form that this model was trained on");
  }
}

}  // namespace orcd::jinja
