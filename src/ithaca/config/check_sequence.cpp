// What the settings of sequence parallelism may not say together, and what the model's heads do not allow.
#include <algorithm>
#include <limits>

#include "ithaca/config/sequence_plan.h"

namespace ithaca {
namespace {

constexpr int64_t kAnyHeads = std::numeric_limits<int64_t>::max();

struct SequenceCheck {
  const ResolvedSettings& resolved;
  Problems& problems;

  const Settings& s() const { return resolved.values; }
  int64_t size() const { return s().sequence_parallel_size; }
  int64_t degree() const { return s().ulysses_degree; }
  const std::string& method() const { return s().sequence_parallel_method; }
  std::string typed(const char* name) const { return resolved.as_typed(name); }
  bool named_as(const char* setting, const char* key) const {
    const auto found = resolved.key.find(setting);
    return found != resolved.key.end() && found->second == key;
  }
  // Whether the method follows from a size that means Ulysses.
  bool method_is_implied() const {
    return named_as("sequence_parallel_method", "context_parallel_size") ||
           named_as("sequence_parallel_method", "ds_sequence_parallel_size");
  }

  // How this user asks for a hybrid.
  std::string hybrid_words(int64_t ulysses) const {
    const bool context = named_as("sequence_parallel_method", "context_parallel_algo") ||
                         named_as("sequence_parallel_method", "context_parallel_size");
    return context ? str("--context-parallel-algo hybrid_cp_algo --ulysses-degree-in-cp ", ulysses)
                   : str("--sequence_parallel_method hybrid --ulysses_degree ", ulysses);
  }
  std::string grid(int64_t ulysses) const {
    return str("a ring of ", size() / ulysses, " x Ulysses ", ulysses);
  }
};

// Of `number`, below it: "1, 2 or 4"
std::string proper_divisors(int64_t number) {
  std::vector<int64_t> found;
  for (int64_t d = 1; d < number && found.size() < 16; ++d)
    if (number % d == 0) found.push_back(d);
  std::string text;
  for (std::size_t i = 0; i < found.size(); ++i)
    text += str(i == 0 ? "" : i + 1 == found.size() ? " or " : ", ", found[i]);
  return text;
}

bool degree_divides(const SequenceCheck& check) {
  if (check.degree() == 0 || check.size() % check.degree() == 0) return true;
  const std::string both = check.typed("ulysses_degree") + " with " + check.typed("sequence_parallel_size");
  if (check.size() == 1)
    check.problems.add(str(both, ": expected sequence_parallel_size ", check.degree(),
                           " or a multiple of it (ulysses_degree is its share)"));
  else
    check.problems.add(str(both, ": ", check.size(), " is not divisible by ", check.degree(),
                           "; expected ulysses_degree ", proper_divisors(check.size()), ", ", check.size(),
                           ", or auto"));
  return false;
}

// --ulysses-degree-in-cp is a word of hybrid_cp_algo, which cannot do without it.
bool degree_in_cp_fits(const SequenceCheck& check) {
  const bool in_cp = check.named_as("ulysses_degree", "ulysses_degree_in_cp");
  if (in_cp && check.method() != "hybrid" && check.method() != "auto") {
    check.problems.add(str(check.typed("ulysses_degree"), " with ", check.typed("sequence_parallel_method"),
                           check.method_is_implied() ? ", which means Ulysses" : "",
                           ": expected the hybrid algorithm (--context-parallel-algo hybrid_cp_algo), or no "
                           "--ulysses-degree-in-cp"));
    return false;
  }
  if (check.method() == "hybrid" && check.degree() == 0 &&
      check.named_as("sequence_parallel_method", "context_parallel_algo")) {
    check.problems.add(str(check.typed("sequence_parallel_method"),
                           ": --ulysses-degree-in-cp is missing; expected a divisor of ",
                           check.typed("sequence_parallel_size"), ", such as --ulysses-degree-in-cp ",
                           check.size() % 2 == 0 ? 2 : 1));
    return false;
  }
  return true;
}

bool degree_fits_method(const SequenceCheck& check) {
  const int64_t degree = check.degree();
  const bool ulysses = check.method() == "ulysses";
  const int64_t implied = ulysses ? check.size() : 1;
  if (degree == 0 || degree == implied || check.method() == "auto" || check.method() == "hybrid") return true;
  const std::string both = check.typed("ulysses_degree") + " with " +
                           check.typed("sequence_parallel_method") +
                           (check.method_is_implied() ? ", which means Ulysses" : "");
  check.problems.add(str(both, ": the degree of ", check.method(),
                         ulysses ? " is sequence_parallel_size, " : " is ", implied,
                         "; leave ulysses_degree out, or type ", check.hybrid_words(degree),
                         degree == check.size() || degree == 1 ? "" : str(" (", check.grid(degree), ")")));
  return false;
}

// The ring degree where the settings alone say it; 0: auto will.
int64_t known_ring(const SequenceCheck& check) {
  const std::string& method = check.method();
  if (method == "ulysses" || method == "kv_allgather") return 1;
  if (method == "ring" || method == "double_ring") return check.size();
  return check.degree() > 0 ? check.size() / check.degree() : 0;
}

void check_inner_ring(const SequenceCheck& check) {
  const int64_t window = check.s().cp_window_size;
  if (window == 1) {
    if (check.method() != "double_ring") return;
    const std::string inner = proper_divisors(check.size());
    check.problems.add(str(check.typed("sequence_parallel_method"), " with ", check.typed("cp_window_size"),
                           ": a double ring needs an inner ring; ",
                           inner == "1" ? str(check.size(), " ranks have none, choose ring")
                                        : str("expected a cp_window_size above 1 of ", inner)));
    return;
  }
  const std::string both = check.typed("cp_window_size") + " with ";
  if (check.method() == "ulysses" || check.method() == "kv_allgather") {
    check.problems.add(str(both, check.typed("sequence_parallel_method"),
                           ": it is the inner ring's size, and ", check.method(),
                           " has no ring; leave it out, or choose ring or hybrid"));
    return;
  }
  const int64_t ring = known_ring(check);
  const auto& other = ring == 0 || check.degree() == 0 ? "sequence_parallel_size" : "ulysses_degree";
  if (ring == 1)
    check.problems.add(str(both, check.typed(other), ": it is the inner ring's size, and there is no ring"));
  else if (ring > 1 && (ring % window != 0 || window == ring))
    check.problems.add(str(both, check.typed(other), ": expected ", proper_divisors(ring),
                           " (the ring degree is ", ring, ", the inner ring divides it and is smaller)"));
  else if (ring == 0 && sequence_candidates(check.s(), kAnyHeads).empty())
    check.problems.add(str(both, check.typed(other), ": no ring degree of ", check.size(),
                           " ranks has such an inner ring; expected ", proper_divisors(check.size())));
}

// The largest Ulysses degree that the ranks and the heads allow.
int64_t working_degree(int64_t size, int64_t heads) {
  int64_t degree = std::min(size, heads);
  while (size % degree != 0) --degree;
  return degree;
}

}  // namespace

void check_sequence_settings(const ResolvedSettings& settings, Problems& problems) {
  const SequenceCheck check{settings, problems};
  if (!degree_divides(check)) return;
  if (check.size() == 1) {
    if (check.s().cp_window_size > 1)
      problems.add(str(check.typed("cp_window_size"), " with ", check.typed("sequence_parallel_size"),
                       ": it is the inner ring's size, and there is no ring"));
    return;
  }
  if (degree_in_cp_fits(check) && degree_fits_method(check)) check_inner_ring(check);
}

void check_sequence_heads(const ResolvedSettings& settings, const ModelConfig& model, Problems& problems) {
  const SequenceCheck check{settings, problems};
  const int64_t heads = model.num_attention_heads, size = check.size();
  if (size == 1 || heads < 1) return;
  const bool by_degree = check.degree() > 0;
  const int64_t degree = by_degree ? check.degree() : check.method() == "ulysses" ? size : 1;
  if (degree > heads) {
    const int64_t works = working_degree(size, heads);
    problems.add(str(check.typed(by_degree ? "ulysses_degree" : "sequence_parallel_size"), ": the model has ",
                     heads, " query heads, and Ulysses gives each rank at least one; type ",
                     works > 1 ? str(check.hybrid_words(works), " (", check.grid(works), ")")
                               : std::string("--sequence_parallel_method ring"),
                     ", or leave method and degree to auto"));
    return;
  }
  if (sequence_candidates(settings.values, heads).empty())
    problems.add(str(check.typed("cp_window_size"), " with ", check.typed("sequence_parallel_size"),
                     ": no grid of ", size, " ranks has such an inner ring with at most ", heads,
                     " ranks (the query heads) in its Ulysses axis"));
}

}  // namespace ithaca
