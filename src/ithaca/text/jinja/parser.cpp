#include "ithaca/text/jinja/parser.h"

#include <algorithm>

#include "ithaca/base/error.h"

namespace ithaca::jinja {
namespace {

class TemplateParser : ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Body run() {
    Body body = statements({});
    if (!at(TokenKind::kEnd)) fail(str("unexpected tag ", current().text));
    return body;
  }

 private:
  bool at_end_tag(const std::vector<std::string_view>& ends) const {
    return at(TokenKind::kName) && std::find(ends.begin(), ends.end(), current().text) != ends.end();
  }

  // Up to one of the tags `ends`, whose name is then current; without `ends`, to the end of the template.
  Body statements(const std::vector<std::string_view>& ends) {
    const Nesting nesting(*this);
    Body body;
    while (!at(TokenKind::kEnd)) {
      if (at(TokenKind::kData)) {
        const Token& token = take();
        body.statements.push_back(std::make_unique<TextStmt>(token.line, token.text));
      } else if (at(TokenKind::kVariableBegin)) {
        const int line = take().line;
        body.statements.push_back(std::make_unique<PrintStmt>(line, tuple()));
        if (!at(TokenKind::kVariableEnd)) fail_expected("}}");
        take();
      } else {
        take();  // {%
        if (at_end_tag(ends)) return body;
        statement(body);
        end_of_block();
      }
    }
    if (!ends.empty()) fail(str("the template ends before {% ", ends.back(), " %}"));
    return body;
  }

  void end_of_block() {
    if (!at(TokenKind::kBlockEnd)) fail_expected("%}");
    take();
  }

  // The body behind a tag's head, up to one of `ends`.
  Body body_until(const std::vector<std::string_view>& ends) {
    skip_operator(":");
    end_of_block();
    return statements(ends);
  }

  Body body_to(std::string_view end) {
    Body body = body_until({end});
    take();
    return body;
  }

  void statement(Body& body) {
    if (!at(TokenKind::kName)) fail_expected("the name of a tag");
    const std::string tag = current().text;
    if (tag == "for") return body.statements.push_back(for_loop());
    if (tag == "if") return body.statements.push_back(if_block());
    if (tag == "set") return body.statements.push_back(set());
    if (tag == "macro") return body.statements.push_back(macro());
    if (tag == "call") return body.statements.push_back(call_block());
    if (tag == "filter") return body.statements.push_back(filter_block());
    if (tag == "with") return body.statements.push_back(with());
    if (tag == "generation") return body.statements.push_back(generation());
    if (tag == "break" || tag == "continue") return body.statements.push_back(flow());
    if (tag == "print") return print(body);
    for (const std::string_view known : {"include", "import", "from", "extends", "block", "autoescape"})
      if (tag == known)
        fail(str("the tag {% ", tag, " %} is not supported: a chat template is one text, without others"));
    fail(str("unknown tag {% ", tag, " %}, or one in the wrong place"));
  }

  Target target(std::string_view stop, bool with_attributes) {
    const Nesting nesting(*this);
    Target whole;
    whole.line = current().line;
    bool several = false;
    do {
      if (several && (at_tuple_end(stop) || at_operator("="))) break;
      whole.parts.push_back(single_target(stop, with_attributes));
      if (at_operator(",")) several = true;
    } while (skip_operator(","));
    if (!several) return Target(std::move(whole.parts.front()));
    whole.is_tuple = true;
    return whole;
  }

  Target single_target(std::string_view stop, bool with_attributes) {
    if (skip_operator("(")) {
      Target inner = target(stop, with_attributes);
      expect_operator(")");
      return inner;
    }
    Target one;
    one.line = current().line;
    one.name = take_name("a name to assign to");
    for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"})
      if (one.name == constant) fail(str("cannot assign to ", constant), one.line);
    if (with_attributes && skip_operator(".")) one.attribute = take_name("an attribute's name");
    if (one.name == "loop" && loops_around_ > 0 && one.attribute.empty())
      fail("cannot assign to the special variable \"loop\" within a loop", one.line);
    return one;
  }

  StmtPtr for_loop() {
    auto node = std::make_unique<ForStmt>(take().line);
    node->target = target("in", false);
    if (node->target.names_variable("loop"))
      fail("cannot use \"loop\" as the variable of a loop", node->line);
    expect_name("in");
    node->iterable = tuple(false, "recursive");
    if (skip_name("if")) node->condition = expression();
    node->recursive = skip_name("recursive");
    ++loops_around_;
    ++breakable_;
    node->body = body_until({"else", "endfor"});
    --breakable_;
    --loops_around_;
    if (take().text == "else") {
      const int outside = breakable_;
      if (node->recursive) breakable_ = 0;
      node->otherwise = body_to("endfor");
      breakable_ = outside;
    }
    return node;
  }

  StmtPtr if_block() {
    auto node = std::make_unique<IfStmt>(take().line);
    while (true) {
      ExprPtr test = tuple(false);
      Body body = body_until({"elif", "else", "endif"});
      node->branches.emplace_back(std::move(test), std::move(body));
      const std::string tag = take().text;
      if (tag == "endif") break;
      if (tag == "elif") continue;
      node->otherwise = body_to("endif");
      break;
    }
    return node;
  }

  StmtPtr set() {
    const int line = take().line;
    Target assigned = target("", true);
    if (skip_operator("=")) {
      auto node = std::make_unique<SetStmt>(line);
      node->target = std::move(assigned);
      node->value = tuple();
      return node;
    }
    auto node = std::make_unique<SetBlockStmt>(line);
    node->target = std::move(assigned);
    node->filter = block_filter(false);
    node->body = body_to("endset");
    return node;
  }

  void signature(MacroCode& code) {
    expect_operator("(");
    while (!at_operator(")")) {
      if (!code.parameters.empty()) expect_operator(",");
      MacroCode::Parameter parameter;
      parameter.name = take_name("a parameter's name");
      if (code.has_parameter(parameter.name))
        fail(str("the parameter \"", parameter.name, "\" occurs twice"));
      if (skip_operator("="))
        parameter.fallback = expression();
      else if (!code.parameters.empty() && code.parameters.back().fallback)
        fail(str("the parameter \"", parameter.name, "\" without a default follows one with a default"));
      code.parameters.push_back(std::move(parameter));
    }
    take();
  }

  // A body that is a function of its own: no loop around it can be left from within.
  Body function_body(std::string_view end, MacroCode& code) {
    const MacroNames outside = macro_names;
    const int breakable = breakable_;
    breakable_ = 0;
    macro_names = {};
    Body body = body_to(end);
    code.uses_caller = macro_names.caller;
    code.uses_kwargs = macro_names.kwargs;
    code.uses_varargs = macro_names.varargs;
    macro_names = {outside.caller || code.uses_caller, outside.kwargs || code.uses_kwargs,
                   outside.varargs || code.uses_varargs};
    breakable_ = breakable;
    return body;
  }

  StmtPtr macro() {
    auto node = std::make_unique<MacroStmt>(take().line);
    node->code.name = take_name("a macro's name");
    signature(node->code);
    node->code.body = function_body("endmacro", node->code);
    return node;
  }

  StmtPtr call_block() {
    auto node = std::make_unique<CallBlockStmt>(take().line);
    if (at_operator("(")) signature(node->code);
    ExprPtr called = expression();
    if (!dynamic_cast<CallExpr*>(called.get()))
      fail("a {% call %} block needs the call of a macro", node->line);
    node->call.reset(static_cast<CallExpr*>(called.release()));
    node->code.body = function_body("endcall", node->code);
    return node;
  }

  StmtPtr filter_block() {
    auto node = std::make_unique<FilterBlockStmt>(take().line);
    node->filter = block_filter(true);
    node->body = body_to("endfilter");
    return node;
  }

  StmtPtr with() {
    auto node = std::make_unique<WithStmt>(take().line);
    while (!at(TokenKind::kBlockEnd)) {
      if (!node->values.empty()) expect_operator(",");
      Target assigned = target("", false);
      expect_operator("=");
      node->values.emplace_back(std::move(assigned), expression());
    }
    node->body = body_to("endwith");
    return node;
  }

  StmtPtr generation() {
    auto node = std::make_unique<GenerationStmt>(take().line);
    MacroCode unused;
    node->body = function_body("endgeneration", unused);
    return node;
  }

  StmtPtr flow() {
    const Token& token = take();
    if (breakable_ == 0) fail(str("{% ", token.text, " %} stands outside of a loop"), token.line);
    return std::make_unique<FlowStmt>(token.line, token.text == "break" ? Flow::kBreak : Flow::kContinue);
  }

  void print(Body& body) {
    const int line = take().line;
    bool first = true;
    while (!at(TokenKind::kBlockEnd)) {
      if (!first) expect_operator(",");
      body.statements.push_back(std::make_unique<PrintStmt>(line, expression()));
      first = false;
    }
  }

  int loops_around_ = 0;
  int breakable_ = 0;  // loops that `break` could leave
};

}  // namespace

ParsedTemplate parse_template(std::string_view source) {
  ParsedTemplate parsed;
  parsed.body = TemplateParser(tokenize(source)).run();
  Scope scope(nullptr);
  parsed.body.declare(scope, false);
  parsed.body.bind(scope, false);
  parsed.loads = scope.loads();
  parsed.slot_count = scope.slot_count();
  return parsed;
}

}  // namespace ithaca::jinja
