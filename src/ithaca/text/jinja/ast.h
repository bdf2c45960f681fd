// A template after parsing: nodes that evaluate themselves. Expressions are in expression.cpp, statements in
// statement.cpp, macros in macro.cpp.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ithaca/text/jinja/run.h"
#include "ithaca/text/jinja/scope.h"
#include "ithaca/text/jinja/value.h"

namespace ithaca::jinja {

// Goes over the names that an expression reads; first to declare them, then to give them their places.
class NameVisitor {
 public:
  NameVisitor(Scope& scope, bool declares, bool may_be_skipped)
      : scope_(scope), declares_(declares), may_be_skipped_(may_be_skipped) {}

  void name(const std::string& name, Slot& slot) {
    if (declares_)
      scope_.load(name);
    else
      slot = scope_.find(name);
  }
  // A filter or test that is not there: an error at once, unless an `if` around it may skip it.
  void missing(const std::string& what, int line) const;
  NameVisitor within_condition() const { return NameVisitor(scope_, declares_, true); }

 private:
  Scope& scope_;
  bool declares_, may_be_skipped_;
};

struct Expr {
  explicit Expr(int source_line) : line(source_line) {}
  Expr(const Expr&) = delete;
  Expr& operator=(const Expr&) = delete;
  virtual ~Expr() = default;

  Value evaluate(Run& run, Frame& frame) const {
    const DepthGuard guard(run.budget);
    run.budget.step();
    run.line = line;
    return eval(run, frame);
  }
  virtual void names(NameVisitor& visitor) = 0;

  int line;
  int depth = 1;  // of the tree below, this node included

 private:
  virtual Value eval(Run& run, Frame& frame) const = 0;
};
using ExprPtr = std::unique_ptr<Expr>;

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr more_positional, more_named;  // *list, **dict
  void names(NameVisitor& visitor);
  Arguments evaluate(Run& run, Frame& frame) const;
  int depth() const;
};

enum class Flow : std::uint8_t { kNext, kBreak, kContinue };

struct Stmt {
  explicit Stmt(int source_line) : line(source_line) {}
  Stmt(const Stmt&) = delete;
  Stmt& operator=(const Stmt&) = delete;
  virtual ~Stmt() = default;

  // The names it reads and stores in the scope it stands in; not those of a body with a scope of its own.
  virtual void declare(Scope& scope, bool in_branch) = 0;
  // Gives its names, and all in its body, their places. `may_be_skipped`: it stands in an `if`.
  virtual void bind(Scope& scope, bool may_be_skipped) = 0;
  virtual Flow run(Run& run, Frame& frame) const = 0;
  int line;
};
using StmtPtr = std::unique_ptr<Stmt>;

struct Body {
  std::vector<StmtPtr> statements;
  void declare(Scope& scope, bool in_branch);
  void bind(Scope& scope, bool may_be_skipped);
  Flow run(Run& run, Frame& frame) const;
};

// Declares and binds an expression of `scope`.
void declare_names(Expr& expression, Scope& scope);
void bind_names(Expr& expression, Scope& scope, bool may_be_skipped);

// The left side of an assignment: a name, `namespace.attribute`, or several of them.
struct Target {
  int line = 0;
  std::string name;       // empty: `parts` count
  std::string attribute;  // of the namespace `name`
  std::vector<Target> parts;
  bool is_tuple = false;
  Slot slot;

  void declare(Scope& scope, bool in_branch);
  void declare_parameters(Scope& scope);
  void bind(const Scope& scope);
  void assign(const Value& value, Run& run, Frame& frame) const;
  bool names_variable(const std::string& variable) const;
};

}  // namespace ithaca::jinja
