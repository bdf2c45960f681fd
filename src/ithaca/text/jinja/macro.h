// {% macro %} and {% call %}.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "ithaca/text/jinja/ast.h"
#include "ithaca/text/jinja/expression.h"

namespace ithaca::jinja {

// The parameters and the body of a macro, or of a call block, which is a macro without a name.
struct MacroCode {
  struct Parameter {
    std::string name;
    ExprPtr fallback;  // may be null
    Slot slot;
  };
  void bind(Scope& around);
  // Its text.
  Value call(Run& run, const std::shared_ptr<Frame>& outer, const Arguments& arguments) const;
  bool has_parameter(const std::string& name) const;

  std::string name;
  std::vector<Parameter> parameters;
  Body body;
  // Does the body use what Jinja passes under these names?
  bool uses_caller = false, uses_kwargs = false, uses_varargs = false;
  Slot caller, kwargs, varargs;
  std::vector<Load> loads;
  std::size_t slot_count = 0;

 private:
  void take_arguments(Frame& frame, const Arguments& arguments) const;
};

struct Macro : Object {
  const MacroCode* code = nullptr;
  std::weak_ptr<Frame> frame;  // in which it was defined; a strong one would let the two hold each other
};

Value call_macro(Run& run, const Macro& macro, const Arguments& arguments);

struct MacroStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool in_branch) override { scope.store(code.name, in_branch); }
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  MacroCode code;
  Slot slot;
};

struct CallBlockStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool) override { declare_names(*call, scope); }
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  MacroCode code;
  std::unique_ptr<CallExpr> call;
};

}  // namespace ithaca::jinja
