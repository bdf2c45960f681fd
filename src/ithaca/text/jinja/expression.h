// The nodes of expressions.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ithaca/text/jinja/ast.h"
#include "ithaca/text/jinja/builtins.h"
#include "ithaca/text/jinja/operators.h"

namespace ithaca::jinja {

struct Literal final : Expr {
  Literal(int source_line, Value constant) : Expr(source_line), value(std::move(constant)) {}
  void names(NameVisitor&) override {}
  Value value;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct Name final : Expr {
  Name(int source_line, std::string text) : Expr(source_line), name(std::move(text)) {}
  void names(NameVisitor& visitor) override { visitor.name(name, slot); }
  std::string name;
  Slot slot;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

enum class Sequence : std::uint8_t { kList, kTuple };
struct SequenceLiteral final : Expr {
  SequenceLiteral(int source_line, Sequence sequence) : Expr(source_line), kind(sequence) {}
  void names(NameVisitor& visitor) override;
  Sequence kind;
  std::vector<ExprPtr> items;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct DictLiteral final : Expr {
  using Expr::Expr;
  void names(NameVisitor& visitor) override;
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

enum class Unary : std::uint8_t { kNot, kMinus, kPlus };
struct UnaryExpr final : Expr {
  UnaryExpr(int source_line, Unary operation, ExprPtr inner)
      : Expr(source_line), op(operation), operand(std::move(inner)) {}
  void names(NameVisitor& visitor) override { operand->names(visitor); }
  Unary op;
  ExprPtr operand;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct ArithmeticExpr final : Expr {
  ArithmeticExpr(int source_line, Arithmetic operation, ExprPtr a, ExprPtr b)
      : Expr(source_line), op(operation), left(std::move(a)), right(std::move(b)) {}
  void names(NameVisitor& visitor) override;
  Arithmetic op;
  ExprPtr left, right;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

// `and`, `or`: the value of the operand that decides.
struct LogicExpr final : Expr {
  LogicExpr(int source_line, bool is_or, ExprPtr a, ExprPtr b)
      : Expr(source_line), disjunction(is_or), left(std::move(a)), right(std::move(b)) {}
  void names(NameVisitor& visitor) override;
  bool disjunction;
  ExprPtr left, right;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct ConcatExpr final : Expr {  // ~
  using Expr::Expr;
  void names(NameVisitor& visitor) override;
  std::vector<ExprPtr> parts;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

enum class Comparison : std::uint8_t {
  kEqual,
  kUnequal,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kIn,
  kNotIn
};
bool compare(Comparison comparison, const Value& a, const Value& b, Budget& budget);

struct CompareExpr final : Expr {  // a < b < c
  CompareExpr(int source_line, ExprPtr a) : Expr(source_line), first(std::move(a)) {}
  void names(NameVisitor& visitor) override;
  ExprPtr first;
  std::vector<std::pair<Comparison, ExprPtr>> rest;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct ConditionalExpr final : Expr {  // a if test else b
  using Expr::Expr;
  void names(NameVisitor& visitor) override;
  ExprPtr test, yes, no;  // no: may be null

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct AttributeExpr final : Expr {  // a.b
  AttributeExpr(int source_line, ExprPtr inner, std::string text)
      : Expr(source_line), object(std::move(inner)), name(std::move(text)), methods(methods_named(name)) {}
  void names(NameVisitor& visitor) override { object->names(visitor); }
  ExprPtr object;
  std::string name;
  MethodsNamed methods;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct ElementExpr final : Expr {  // a[b]
  ElementExpr(int source_line, ExprPtr inner, ExprPtr key)
      : Expr(source_line), object(std::move(inner)), index(std::move(key)) {}
  void names(NameVisitor& visitor) override;
  ExprPtr object, index;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct SliceExpr final : Expr {  // a[b:c:d]
  using Expr::Expr;
  void names(NameVisitor& visitor) override;
  ExprPtr object, start, stop, step;  // bounds may be null

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct CallExpr final : Expr {
  CallExpr(int source_line, ExprPtr function) : Expr(source_line), callee(std::move(function)) {}
  void names(NameVisitor& visitor) override;
  // `caller`: of a {% call %} block, or nothing.
  Value call(Run& run, Frame& frame, const Value* caller) const;
  ExprPtr callee;
  CallArguments arguments;

 private:
  Value eval(Run& run, Frame& frame) const override { return call(run, frame, nullptr); }
};

struct FilterExpr final : Expr {
  FilterExpr(int source_line, std::string text)
      : Expr(source_line), name(std::move(text)), filter(find_filter(name)) {}
  void names(NameVisitor& visitor) override;
  ExprPtr input;  // null: the text of a {% filter %} or {% set %} block, given to apply
  Value apply(const Value& value, Run& run, Frame& frame) const;
  // Of a chain of filters that starts with a block's text.
  Value apply_to_text(const Value& text, Run& run, Frame& frame) const;
  std::string name;
  const Filter* filter;  // null: none of this name
  CallArguments arguments;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

struct TestExpr final : Expr {  // a is b
  TestExpr(int source_line, ExprPtr value, std::string text)
      : Expr(source_line), input(std::move(value)), name(std::move(text)), test(find_test(name)) {}
  void names(NameVisitor& visitor) override;
  ExprPtr input;
  std::string name;
  const Test* test;  // null: none of this name
  CallArguments arguments;

 private:
  Value eval(Run& run, Frame& frame) const override;
};

}  // namespace ithaca::jinja
