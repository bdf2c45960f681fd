#include "ithaca/parallel/memory/activation_checkpoint.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>

#include "ithaca/base/error.h"
#include "ithaca/parallel/memory/pages.h"

namespace ithaca {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
using torch::autograd::variable_list;

// During backward gradients need more and more memory and activations less. malloc would keep what activations
// leave (a fifth of the peak); returning it at every layer would cost a sixth of the time (bench/results).
constexpr int64_t kLayersBetweenReturns = 4;

struct CheckpointState : torch::CustomClassHolder {
  int64_t layer = 0;  // index
  std::function<at::Tensor(const at::Tensor&)> run;
  AttentionStash stash;
};

class Checkpoint : public Function<Checkpoint> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& x,
                            const c10::intrusive_ptr<CheckpointState>& state) {
    ctx->save_for_backward({x});
    ctx->saved_data["state"] = at::IValue::make_capsule(state);
    c10::NoGradGuard no_grad;
    return state->run(x);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto state =
        c10::static_intrusive_pointer_cast<CheckpointState>(ctx->saved_data["state"].toCapsule());
    const at::Tensor x = ctx->get_saved_variables()[0].detach().requires_grad_(true);
    if (x.is_cpu() && state->layer % kLayersBetweenReturns == kLayersBetweenReturns - 1)
      return_freed_memory();
    at::Tensor y;
    {
      c10::AutoGradMode with_grad(true);
      y = state->run(x);
    }
    torch::autograd::backward({y}, {grads[0]});
    return {x.grad(), at::Tensor()};
  }
};

}  // namespace

CheckpointMode checkpoint_mode_from_name(const std::string& name) {
  if (name == "false") return CheckpointMode::kNone;
  if (name == "full") return CheckpointMode::kFull;
  ITHACA_CHECK(name == "keep_attention", "gradient_checkpointing ", name);
  return CheckpointMode::kKeepAttention;
}

RunLayer checkpointed(RunLayer inner, CheckpointMode mode) {
  if (mode == CheckpointMode::kNone) return inner;
  return [inner = std::move(inner), mode](DecoderLayer& layer, const at::Tensor& x,
                                          const LayerContext& context) {
    if (!c10::GradMode::is_enabled())  // no backward follows
      return inner ? inner(layer, x, context) : layer.forward(x, context);
    auto state = c10::make_intrusive<CheckpointState>();
    state->layer = layer.index;
    state->stash.keep =
        mode == CheckpointMode::kFull ? AttentionStash::Keep::kOutput : AttentionStash::Keep::kAll;
    // The state holds this function: a plain pointer back to its stash is valid as long as it runs. The layer
    // outlives the graph; the context is copied (its tensors are shared).
    LayerContext own = context;
    own.stash = &state->stash;
    state->run = [inner, &layer, own](const at::Tensor& input) {
      return inner ? inner(layer, input, own) : layer.forward(input, own);
    };
    return Checkpoint::apply(x, state);
  };
}

}  // namespace ithaca
