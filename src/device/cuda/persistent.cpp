#include "device/cuda/persistent.h"

#include <algorithm>
#include <span>
#include <utility>
#include <variant>

#include "base/units.h"
#include "device/cuda/linear_deal.h"
#include "device/cuda/state.h"
#include "numerics/attention.h"
#include "numerics/norm.h"

namespace orcd::cuda {
namespace {

// The ops of a layer.
struct LayerOps {
  const model::QkvOp* qkv;
  const model::AttentionOp* attention;
  const model::ProjectOp* project;
  const model::GateUpOp* gate_up;
  const model::ProjectOp* down;
};

constexpr size_t kLayerOps = 5;

// nullopt where layers are made of other ops.
std::optional<std::vector<LayerOps>> layers_of(const model::Program& program) {
  const std::vector<model::Op>& ops = program.ops;
  if (ops.size() != 2 + kLayerOps * program.spec.n_layers || program.spec.n_layers == 0) return std::nullopt;
  const auto* embed = std::get_if<model::EmbedOp>(&ops.front());
  if (!embed || embed->positions != model::kNoWeight || !std::holds_alternative<model::HeadOp>(ops.back()))
    return std::nullopt;
  std::vector<LayerOps> layers;
  for (size_t i = 1; i + 1 < ops.size(); i += kLayerOps) {
    const LayerOps layer = {std::get_if<model::QkvOp>(&ops[i]), std::get_if<model::AttentionOp>(&ops[i + 1]),
                            std::get_if<model::ProjectOp>(&ops[i + 2]),
                            std::get_if<model::GateUpOp>(&ops[i + 3]),
                            std::get_if<model::ProjectOp>(&ops[i + 4])};
    if (!layer.qkv || !layer.attention || !layer.project || !layer.gate_up || !layer.down)
      return std::nullopt;
    layers.push_back(layer);
  }
  return layers;
}

bool is_rms(const model::Norm& norm) {
  return norm.weight != model::kNoWeight && norm.bias == model::kNoWeight &&
         norm.kind == model::NormKind::kRms;
}

bool is_possible(const model::Program& program, const LayerOps& layer, const LayerOps& first) {
  const auto in_blocks = [&](model::WeightId id) {
    return id != model::kNoWeight && numerics::is_block_format(program.weights[id].type);
  };
  const model::QkvOp& qkv = *layer.qkv;
  const model::GateUpOp& gate_up = *layer.gate_up;
  if (qkv.n_heads != first.qkv->n_heads || qkv.n_kv_heads != first.qkv->n_kv_heads ||
      qkv.head_dim != first.qkv->head_dim || layer.attention->window != first.attention->window ||
      layer.attention->softcap != 0.0f || layer.attention->sinks != model::kNoWeight)
    return false;
  if (!is_rms(qkv.norm) || !in_blocks(qkv.q) || !in_blocks(qkv.k) || !in_blocks(qkv.v)) return false;
  if (!is_rms(gate_up.norm) || !in_blocks(gate_up.gate) || !in_blocks(gate_up.up) ||
      gate_up.gate_bias != model::kNoWeight || gate_up.up_bias != model::kNoWeight)
    return false;
  const model::Weight &gate = program.weights[gate_up.gate], &up = program.weights[gate_up.up];
  if (gate.type != up.type || gate.rows % 32 != 0 || gate.rows != program.weights[first.gate_up->gate].rows)
    return false;
  for (const model::ProjectOp* project : {layer.project, layer.down})
    if (!in_blocks(project->w) || project->post_norm.weight != model::kNoWeight) return false;
  return !layer.project->from_ffn && layer.down->from_ffn;
}

uint32_t queries_of(const model::QkvOp& qkv) {
  const uint32_t per_kv = qkv.n_heads / qkv.n_kv_heads;
  return qkv.n_kv_heads * ((per_kv + kPersistentQueries - 1) / kPersistentQueries);
}

const model::QkvOp& first_qkv(const model::Program& program) {
  return std::get<model::QkvOp>(program.ops[1]);
}

// A linear layer, dealt to n_blocks blocks; where its weights lie is not known yet.
PersistentLinear shape_linear(const model::Program& program, uint32_t n_blocks,
                              std::initializer_list<model::WeightId> weights, bool glu) {
  LinearArgs args = {};
  PersistentLinear out = {};
  uint32_t tile_bytes[3] = {};
  for (const model::WeightId id : weights) {
    const model::Weight& weight = program.weights[id];
    args.segments[args.n_segments].rows = static_cast<uint32_t>(weight.rows);
    out.types[args.n_segments++] = weight.type;
    args.cols = static_cast<uint32_t>(weight.cols);
  }
  args.epilogue = glu ? Epilogue::kGlu : Epilogue::kStore;
  args.other_segment = args.n_segments;
  shape_segments(args, [&](uint32_t i) { return out.types[i]; });
  for (uint32_t i = 0; i < args.n_segments; ++i)
    tile_bytes[i] = args.n_units * packed_shape(out.types[i]).unit_bytes + args.segments[i].super_stride;
  deal_tiles(args, n_blocks, tile_bytes);
  std::copy(std::begin(args.segments), std::end(args.segments), std::begin(out.segments));
  out.n_segments = args.n_segments;
  out.cols = args.cols;
  out.n_units = args.n_units;
  out.n_groups = args.n_groups;
  return out;
}

PersistentLayer shape_layer(const model::Program& program, uint32_t n_blocks, const LayerOps& ops) {
  PersistentLayer layer = {};
  const model::QkvOp& qkv = *ops.qkv;
  layer.linears[kQkvStage] = shape_linear(program, n_blocks, {qkv.q, qkv.k, qkv.v}, false);
  layer.linears[kProjectStage] = shape_linear(program, n_blocks, {ops.project->w}, false);
  layer.linears[kProjectStage].scale = ops.project->scale;
  layer.linears[kGateUpStage] = shape_linear(program, n_blocks, {ops.gate_up->gate, ops.gate_up->up}, true);
  layer.linears[kGateUpStage].activation = ops.gate_up->activation;
  layer.linears[kDownStage] = shape_linear(program, n_blocks, {ops.down->w}, false);
  layer.linears[kDownStage].scale = ops.down->scale;
  layer.qk_eps = qkv.qk_norm_eps;
  layer.q_scale = qkv.scale;
  return layer;
}

const model::HeadOp& head_of(const model::Program& program) {
  return std::get<model::HeadOp>(program.ops.back());
}

// The head as a layer with one stage.
PersistentLayer shape_head(const model::Program& program, uint32_t n_blocks) {
  PersistentLayer layer = {};
  PersistentLinear& linear = layer.linears[kQkvStage];
  linear = shape_linear(program, n_blocks, {head_of(program).w}, false);
  linear.scale = head_of(program).scale;
  return layer;
}
bool can_have_head(const model::Program& program) {
  const model::HeadOp& head = head_of(program);
  return is_rms(head.norm) && numerics::is_block_format(program.weights[head.w].type);
}
void place_head(const State& state, PersistentLayer* layer) {
  const model::HeadOp& head = head_of(*state.program);
  PersistentLinear& linear = layer->linears[kQkvStage];
  linear.segments[0].data = state.item(state.plan.weights[head.w]);
  linear.segments[0].bias = state.vector(head.bias);
  linear.norm = state.input_norm(head.norm);
}

// Where the layer's weights, table, pages and outputs lie.
void place_layer(const State& state, const LayerOps& ops, const PersistentExchange& words,
                 PersistentLayer* layer) {
  const auto place = [&](uint32_t stage, std::initializer_list<model::WeightId> weights,
                         std::initializer_list<model::WeightId> biases) {
    Segment* segment = layer->linears[stage].segments;
    for (const model::WeightId id : weights) segment++->data = state.item(state.plan.weights[id]);
    segment = layer->linears[stage].segments;
    for (const model::WeightId id : biases) segment++->bias = state.vector(id);
  };
  const model::QkvOp& qkv = *ops.qkv;
  place(kQkvStage, {qkv.q, qkv.k, qkv.v}, {qkv.q_bias, qkv.k_bias, qkv.v_bias});
  place(kProjectStage, {ops.project->w}, {ops.project->bias});
  place(kGateUpStage, {ops.gate_up->gate, ops.gate_up->up}, {});
  place(kDownStage, {ops.down->w}, {ops.down->bias});
  layer->linears[kQkvStage].norm = state.input_norm(qkv.norm);
  layer->linears[kGateUpStage].norm = state.input_norm(ops.gate_up->norm);
  if (qkv.rope >= 0) {
    const model::RopeSpec& rope = state.program->ropes[qkv.rope];
    layer->n_dims = rope.n_dims;
    layer->halves = rope.style == model::RopeStyle::kHalves;
    layer->rope_table = state.floats(state.plan.ropes[qkv.rope]);
  }
  uint64_t** outputs = layer->linears[kQkvStage].outputs;
  outputs[0] = words.q;
  outputs[1] = words.k;
  outputs[2] = words.v;
  layer->linears[kProjectStage].outputs[0] = words.middle;
  layer->linears[kDownStage].outputs[0] = words.input;
  layer->pages = state.as<uint16_t>(state.plan.kv[qkv.layer]);
  layer->q_norm = state.vector(qkv.q_norm);
  layer->k_norm = state.vector(qkv.k_norm);
}

// What a block has to know of a stage of a placed layer.
StageShare stage_share(const PersistentLinear& l, bool glu, uint32_t block) {
  const PersistentShare share = share_of(l, glu, block);
  StageShare out = {};
  out.n_units = l.n_units;
  out.n_groups = l.n_groups;
  if (share.n_tiles == 0) return out;
  const Segment& first = l.segments[share.segment];
  out.type = l.types[share.segment];
  out.set = set_shape(out.type, std::min(share.n_tiles, 2u));
  for (uint32_t i = 0; i < (glu ? 2 : 1); ++i) {
    const Segment& s = l.segments[share.segment + i];
    out.units[i] = s.data + uint64_t{share.first_tile} * l.n_units * out.set.unit_bytes;
    out.super[i] = s.data + s.super_at + uint64_t{share.first_tile} * s.super_stride;
  }
  out.n_pairs = (share.n_tiles + 1) / 2 * (glu ? 2 : 1);
  out.first_row = share.first_tile * kTileRows;
  out.n_tiles = share.n_tiles;
  out.n_rows = std::min(share.n_tiles * kTileRows, first.rows - out.first_row);
  if (first.bias) out.bias = first.bias + out.first_row;
  if (l.outputs[share.segment]) out.out = l.outputs[share.segment] + out.first_row;
  out.strip_shift = first.strip_shift;
  out.super_stride = first.super_stride;
  out.scale = l.scale;
  out.activation = l.activation;
  return out;
}

// What a layer's stages take at most of a block.
struct Needs {
  uint32_t slots[kLinearStages] = {};
  uint32_t codes = 0, scales = 0, parts = 0;
};

void add_needs(const PersistentLayer& layer, Needs* needs) {
  for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
    const PersistentLinear& linear = layer.linears[stage];
    const bool glu = stage == kGateUpStage;
    for (uint32_t i = 0; i < (glu ? 1 : linear.n_segments); ++i) {
      const Segment& s = linear.segments[i];
      const uint32_t tiles = (s.steps_per_block + (s.extra_steps != 0 ? 1 : 0)) * (glu ? 4 : 1);
      const uint32_t tile_bytes = linear.n_units * packed_shape(linear.types[i]).unit_bytes + s.super_stride;
      // Sets of four units are read whole.
      needs->slots[stage] =
          std::max(needs->slots[stage], tiles * tile_bytes + 3 * packed_shape(linear.types[i]).unit_bytes);
      needs->parts = std::max(needs->parts, ((tiles + 1) / 2 * 2 << s.strip_shift) * kTileRows * 4);
    }
    needs->codes = std::max(needs->codes, linear.n_units * kUnit + 256);  // a set may be read past the end
    needs->scales = std::max(needs->scales, (linear.n_units + 4) * 16);
  }
}

// Whether launches are faster than streaming its weights: sets of some formats take longer to work on than to
// bring (docs/PERFORMANCE.md).
bool streams_slowly(const PersistentLayer& layer) {
  for (const PersistentLinear& linear : layer.linears) {
    for (uint32_t i = 0; i < linear.n_segments; ++i)
      if (linear.types[i] == TensorType::kQ2_K || linear.types[i] == TensorType::kQ3_K) return true;
  }
  return false;
}

// Where a part of so many bytes begins, of which `end` have been given out.
uint32_t take_part(uint32_t* end, uint32_t bytes) {
  return std::exchange(*end, static_cast<uint32_t>(align_up(*end + bytes, 128)));
}

// Where weights are resident. page_bytes: of a split.
PersistentShared lay_out(const std::vector<PersistentLayer>& layers, uint32_t page_bytes) {
  Needs needs;
  for (const PersistentLayer& layer : layers) add_needs(layer, &needs);
  PersistentShared out = {};
  const auto take = [&](uint32_t bytes) { return take_part(&out.bytes, bytes); };
  out.red_at = take(numerics::kLanes * 4);
  out.codes_at = take(needs.codes);
  out.scales_at = take(needs.scales);
  out.parts_at = take(std::max(needs.parts, kAttentionShared));
  out.slots_at[kQkvStage] = take(needs.slots[kQkvStage]);
  out.slots_at[kGateUpStage] = take(needs.slots[kGateUpStage]);
  out.pages_at = out.bytes;
  out.slots_at[kProjectStage] = take(needs.slots[kProjectStage]);
  out.slots_at[kDownStage] = take(needs.slots[kDownStage]);
  out.bytes = std::max(out.bytes, out.pages_at + page_bytes);
  return out;
}

// Sets of units that a warp takes of a stage.
uint32_t sets_of_warp(const StageShare& s, uint32_t warp) {
  const StripUnits units = strip_units(s, warp);
  uint32_t n = 0;
  for (uint32_t pair = warp >> s.strip_shift; pair < s.n_pairs; pair += kTokenWarps >> s.strip_shift) {
    for (uint32_t unit = units.begin; unit < units.end; ++n) unit += units_from(unit, units.end, s.set.units);
  }
  return n;
}

// Whether all warps of a block take as many sets of each stage.
bool warps_keep_step(std::span<const PersistentLayer> layers, uint32_t n_blocks) {
  for (const PersistentLayer& layer : layers) {
    for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
      for (uint32_t block = 0; block < n_blocks; ++block) {
        const StageShare share = stage_share(layer.linears[stage], stage == kGateUpStage, block);
        for (uint32_t warp = 1; warp < kTokenWarps; ++warp)
          if (sets_of_warp(share, warp) != sets_of_warp(share, 0)) return false;
      }
    }
  }
  return true;
}

// Where weights stream. has_head: it is the last entry. page_bytes: of a split.
StreamShared lay_out_stream(const std::vector<PersistentLayer>& layers, uint32_t n_blocks, bool has_head,
                            uint32_t page_bytes) {
  StreamShared out = {};
  uint32_t row = kAttentionShared, parts = 0, codes = 0, scales = 0;
  for (size_t entry = 0; entry < layers.size(); ++entry) {
    const PersistentLayer& layer = layers[entry];
    const bool is_head = has_head && entry + 1 == layers.size();
    for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
      const PersistentLinear& linear = layer.linears[stage];
      const bool glu = stage == kGateUpStage;
      if (glu || stage == kQkvStage) row = std::max(row, (linear.cols + numerics::kLanes) * 4);
      codes = std::max(codes, linear.n_units * kUnit + 256);  // a set may be read past the end of the row
      scales = std::max(scales, (linear.n_units + 4) * 16);
      for (uint32_t i = 0; i < (glu ? 1 : linear.n_segments); ++i) {
        const Segment& s = linear.segments[i];
        const uint32_t steps = s.steps_per_block + (s.extra_steps != 0 ? 1 : 0);
        const uint32_t tiles = glu ? steps * 4 : (steps + 1) / 2 * 2;
        parts = std::max(parts, (tiles << s.strip_shift) * kTileRows * 4);
        // A thread a row finishes them.
        if (!is_head && tiles * kTileRows > kComputeThreads * (glu ? 2 : 1)) return {};
        out.slot_bytes = std::max(out.slot_bytes, 2 * set_shape(linear.types[i]).tile_bytes);
      }
    }
  }
  uint32_t others = 0;
  for (const uint32_t bytes : {row, parts, codes, scales}) take_part(&others, bytes);
  if (others > kMostStreamShared) return {};
  const uint32_t warps_slot = kTokenWarps * out.slot_bytes;
  out.n_slots = std::min(kMostSlots, (kMostStreamShared - others) / warps_slot);
  const auto take = [&](uint32_t bytes) { return take_part(&out.bytes, bytes); };
  out.pages_beside = out.n_slots == 2 && page_bytes <= warps_slot &&
                     warps_keep_step({layers.data(), layers.size() - (has_head ? 1 : 0)}, n_blocks);
  take(std::max(out.n_slots * warps_slot, page_bytes));
  out.row_at = take(row);
  out.parts_at = take(parts);
  out.codes_at = take(codes);
  out.scales_at = take(scales);
  if (out.n_slots < 2 || out.bytes > kMostStreamShared) return {};
  return out;
}

}  // namespace

std::optional<PersistentShape> persistent_shape(const model::Program& program, PersistentBlocks blocks) {
  const uint32_t n_blocks = blocks.n;
  const std::optional<std::vector<LayerOps>> ops = layers_of(program);
  if (!ops || n_blocks == 0) return std::nullopt;
  const LayerOps& first_ops = ops->front();
  if (!has_persistent_attention(first_ops.qkv->head_dim)) return std::nullopt;
  PersistentShape out = {};
  uint32_t n_adding = 0;  // blocks that have a share of the projections
  for (const LayerOps& one : *ops) {
    if (!is_possible(program, one, first_ops)) return std::nullopt;
    out.layers.push_back(shape_layer(program, n_blocks, one));
    const Segment &project = out.layers.back().linears[kProjectStage].segments[0],
                  &down = out.layers.back().linears[kDownStage].segments[0],
                  &first = out.layers.front().linears[kProjectStage].segments[0];
    // The owner of a row of the residual keeps it.
    for (const Segment* s : {&project, &down}) {
      if (s->n_blocks != first.n_blocks || s->steps_per_block != first.steps_per_block ||
          s->extra_steps != first.extra_steps)
        return std::nullopt;
    }
    if ((project.steps_per_block + 1) * kTileRows > kMostResiduals) return std::nullopt;
    n_adding = project.n_blocks;
  }
  const uint32_t queries = queries_of(*first_ops.qkv);
  const uint32_t page_bytes =
      2 * numerics::kPagesPerSplit * numerics::kPageKeys * first_ops.qkv->head_dim * 2;
  if (!blocks.streams) {
    out.shared = lay_out(out.layers, page_bytes);
    out.n_attending = n_blocks - std::min(n_blocks, n_adding);
    out.max_splits = out.n_attending / queries;
    const bool is_narrow = program.spec.dim <= kMostResidentCols;
    if (is_narrow && out.shared.bytes <= kMostResidentShared && out.max_splits != 0) return out;
    out.shared = {};
    if (std::any_of(out.layers.begin(), out.layers.end(), streams_slowly)) return std::nullopt;
  }
  out.stream = lay_out_stream(out.layers, n_blocks, false, page_bytes);
  if (can_have_head(program)) {
    out.layers.push_back(shape_head(program, n_blocks));
    const StreamShared with_head = lay_out_stream(out.layers, n_blocks, true, page_bytes);
    out.has_head = with_head.n_slots != 0 && with_head.n_slots == out.stream.n_slots;
    if (out.has_head) {
      out.stream = with_head;
    } else {
      out.layers.pop_back();
    }
  }
  out.n_attending = n_blocks;
  out.max_splits = n_blocks * kMostItems / queries;
  if (out.stream.n_slots == 0 || out.max_splits == 0) return std::nullopt;
  return out;
}

PersistentWords persistent_words(const model::Program& program, uint32_t n_splits) {
  const model::QkvOp& qkv = first_qkv(program);
  const uint64_t dim = program.spec.dim, q_dim = uint64_t{qkv.n_heads} * qkv.head_dim,
                 kv_dim = uint64_t{qkv.n_kv_heads} * qkv.head_dim;
  PersistentWords out = {};
  const auto take = [&](uint64_t n) { return std::exchange(out.n, out.n + n); };
  out.input = take(dim);
  out.middle = take(dim);
  out.q = take(q_dim);
  out.k = take(kv_dim);
  out.v = take(kv_dim);
  out.partial = take(uint64_t{qkv.n_heads} * n_splits * (qkv.head_dim + 2));
  out.attention = take(q_dim / 32 * 10);
  out.gated = take(uint64_t{program.max_ffn_dim} / 32 * 10);
  out.epoch = take(1);
  return out;
}

void prepare_persistent(Calls* calls) {
  for (const uint32_t head_dim : {64u, 128u}) {
    calls->allow_shared(reinterpret_cast<const void*>(resident_kernel(head_dim)), kMostResidentShared);
    calls->allow_shared(reinterpret_cast<const void*>(streamed_kernel(head_dim)), kMostStreamShared);
  }
}

void launch_persistent(Calls* calls, uint32_t n_blocks, const PersistentArgs& args) {
  const bool streams = args.stream.n_slots != 0;
  LaunchShape shape;
  shape.grid = dim3(n_blocks);
  shape.block = dim3(streams ? kStreamThreads : kResidentThreads);
  shape.shared_bytes = streams ? args.stream.bytes : args.shared.bytes;
  shape.together = true;
  shape.overlap = false;  // it reads what the step before left from its first instruction on
  calls->launch("layers, one token", (streams ? streamed_kernel : resident_kernel)(args.head_dim), shape,
                args);
}

std::optional<Persistent> make_persistent(State& state) {
  if (!state.plan.persistent) return std::nullopt;
  const model::Program& program = *state.program;
  const CudaPlan::Persistent& items = *state.plan.persistent;
  PersistentShape shape = *persistent_shape(program, state.context->persistent);
  const std::vector<LayerOps> ops = *layers_of(program);
  const model::QkvOp& qkv = first_qkv(program);
  const PersistentWords words = persistent_words(program, items.n_splits);
  auto* exchange = state.as<uint64_t>(items.exchange);
  Persistent out = {};
  out.n_blocks = state.context->persistent.n;
  PersistentArgs& args = out.args;
  args.shared = shape.shared;
  args.stream = shape.stream;
  args.n_attending = shape.n_attending;
  args.layers = state.as<const PersistentLayer>(items.layers);
  args.n_layers = program.spec.n_layers;
  args.n_entries = static_cast<uint32_t>(shape.layers.size());
  args.n_stages = args.n_layers * kLinearStages + (shape.has_head ? 1 : 0);
  const model::EmbedOp& embed = std::get<model::EmbedOp>(program.ops.front());
  args.embeddings = state.matrix(embed.table);
  args.embedding_scale = embed.scale;
  args.last_token = state.as<const int32_t>(state.plan.last_token);
  args.x = state.floats(state.plan.x);
  args.exchange = {exchange + words.input,
                   exchange + words.middle,
                   exchange + words.q,
                   exchange + words.k,
                   exchange + words.v,
                   exchange + words.partial,
                   exchange + words.attention,
                   exchange + words.gated,
                   reinterpret_cast<uint32_t*>(exchange + words.epoch)};
  for (size_t i = 0; i < ops.size(); ++i) place_layer(state, ops[i], args.exchange, &shape.layers[i]);
  const model::HeadOp& head = head_of(program);
  if (shape.has_head) {
    place_head(state, &shape.layers.back());
    args.logits = state.floats(state.plan.logits);
    args.softcap = head.softcap;
  } else if (numerics::is_block_format(state.weight(head.w).type)) {
    args.prefetch = prefetch_piece(state, head.w, 1, kHeadBlocksPerSm, kMostPrefetch);
  }
  args.n_heads = qkv.n_heads;
  args.n_kv_heads = qkv.n_kv_heads;
  args.head_dim = qkv.head_dim;
  args.window = ops.front().attention->window;
  args.max_splits = items.n_splits;
  std::vector<BlockShares> shares;
  if (shape.stream.n_slots != 0) {
    for (const PersistentLayer& layer : shape.layers) {
      for (uint32_t block = 0; block < out.n_blocks; ++block) {
        BlockShares& of_block = shares.emplace_back();
        for (uint32_t stage = 0; stage < kLinearStages; ++stage)
          of_block.stages[stage] = stage_share(layer.linears[stage], stage == kGateUpStage, block);
      }
    }
    args.shares = state.as<const BlockShares>(items.shares);
    state.calls->copy_to_device(state.item(items.shares), shares.data(), shares.size() * sizeof(BlockShares),
                                "shares of the layers");
  }
  state.calls->copy_to_device(state.item(items.layers), shape.layers.data(),
                              shape.layers.size() * sizeof(PersistentLayer), "arguments of the layers");
  state.calls->synchronize("arguments of the layers");
  return out;
}

}  // namespace orcd::cuda
