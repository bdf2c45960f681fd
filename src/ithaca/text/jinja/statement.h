// The nodes of statements.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ithaca/text/jinja/ast.h"
#include "ithaca/text/jinja/expression.h"
#include "ithaca/text/jinja/loop.h"

namespace ithaca::jinja {

struct TextStmt final : Stmt {
  TextStmt(int source_line, std::string content) : Stmt(source_line), text(std::move(content)) {}
  void declare(Scope&, bool) override {}
  void bind(Scope&, bool) override {}
  Flow run(Run& run, Frame& frame) const override;
  std::string text;
};

struct PrintStmt final : Stmt {
  PrintStmt(int source_line, ExprPtr printed) : Stmt(source_line), value(std::move(printed)) {}
  void declare(Scope& scope, bool) override { declare_names(*value, scope); }
  void bind(Scope& scope, bool may_be_skipped) override { bind_names(*value, scope, may_be_skipped); }
  Flow run(Run& run, Frame& frame) const override;
  ExprPtr value;
};

struct IfStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool in_branch) override;
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};

struct SetStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool in_branch) override;
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  Target target;
  ExprPtr value;
};

struct SetBlockStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool in_branch) override { target.declare(scope, in_branch); }
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  Target target;
  std::unique_ptr<FilterExpr> filter;  // may be null
  Body body;
  std::vector<Load> loads;
};

struct FilterBlockStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool) override { declare_names(*filter, scope); }
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  std::unique_ptr<FilterExpr> filter;
  Body body;
  std::vector<Load> loads;
};

struct WithStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool in_branch) override;
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  std::vector<std::pair<Target, ExprPtr>> values;
  Body body;
  std::vector<Load> loads;
};

struct GenerationStmt final : Stmt {  // {% generation %}: what an assistant says
  using Stmt::Stmt;
  void declare(Scope&, bool) override {}
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  Body body;
  std::vector<Load> loads;
};

struct FlowStmt final : Stmt {  // break, continue
  FlowStmt(int source_line, Flow flow) : Stmt(source_line), kind(flow) {}
  void declare(Scope&, bool) override {}
  void bind(Scope&, bool) override {}
  Flow run(Run&, Frame&) const override { return kind; }
  Flow kind;
};

struct ForStmt final : Stmt {
  using Stmt::Stmt;
  void declare(Scope& scope, bool) override { declare_names(*iterable, scope); }
  void bind(Scope& scope, bool may_be_skipped) override;
  Flow run(Run& run, Frame& frame) const override;
  // `loop(...)` within a recursive loop: the text of its rounds over other items.
  std::string run_recursive(Run& run, const std::shared_ptr<Frame>& outer, const Value& items,
                            int depth0) const;

  Target target;
  ExprPtr iterable, condition;  // condition: may be null
  bool recursive = false;
  Body body, otherwise;
  Slot loop;
  std::vector<Load> body_loads, test_loads, else_loads;
  Target test_target;          // the same names, for the condition
  std::size_t slot_count = 0;  // of a recursive loop, which is a function of its own

 private:
  Flow rounds(Run& run, Frame& frame, const Value& items, int depth0) const;
};

}  // namespace ithaca::jinja
