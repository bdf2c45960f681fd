#include "ithaca/text/post_processor.h"

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

constexpr std::int64_t kMaxId = 16'000'000;
constexpr std::size_t kMaxIds = 4096;  // a template may name a list of ids many times over
constexpr std::string_view kKnown =
    "ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing, Sequence";

std::vector<int32_t> template_ids(const JsonNode& node, const std::string& name) {
  const JsonNode tokens = node.at("special_tokens");
  if (!tokens.has(name))
    throw UserError(str(tokens.where(), ": the template's token \"", name, "\" is missing"));
  const JsonNode ids = tokens.at(name).at("ids");
  std::vector<int32_t> list;
  for (std::size_t i = 0; i < ids.size(); ++i)
    list.push_back(static_cast<int32_t>(ids.item(i).integer(0, kMaxId)));
  return list;
}

PostProcessor from_template(const JsonNode& node) {
  PostProcessor processor;
  const JsonNode single = node.at("single");
  int texts = 0;
  for (std::size_t i = 0; i < single.size(); ++i) {
    const JsonNode piece = single.item(i);
    if (piece.has("Sequence")) {
      ++texts;
    } else {
      const std::vector<int32_t> ids = template_ids(node, piece.at("SpecialToken").text("id"));
      auto& side = texts ? processor.behind : processor.before;
      side.insert(side.end(), ids.begin(), ids.end());
      if (side.size() > kMaxIds) single.fail(str("at most ", kMaxIds, " ids on a side of the text"));
    }
  }
  if (texts != 1) single.fail("a template with the text (Sequence A) exactly once");
  return processor;
}

int32_t pair_id(const JsonNode& pair) {
  return static_cast<int32_t>(pair.item(1).integer(0, kMaxId));
}

}  // namespace

PostProcessor PostProcessor::from_json(const JsonNode& node) {
  if (node.is_null()) return {};
  const std::string type = node.text("type");
  if (type == "ByteLevel") return {};  // moves offsets only
  if (type == "TemplateProcessing") return from_template(node);
  if (type == "BertProcessing" || type == "RobertaProcessing")
    return {{pair_id(node.at("cls"))}, {pair_id(node.at("sep"))}};
  if (type != "Sequence") node.unsupported("post_processor", type, kKnown);
  PostProcessor all;
  const JsonNode list = node.at("processors");
  for (std::size_t i = 0; i < list.size(); ++i) {
    const PostProcessor next = from_json(list.item(i));
    all.before.insert(all.before.begin(), next.before.begin(), next.before.end());
    all.behind.insert(all.behind.end(), next.behind.begin(), next.behind.end());
    if (all.before.size() > kMaxIds || all.behind.size() > kMaxIds)
      list.fail(str("at most ", kMaxIds, " ids on a side of the text"));
  }
  return all;
}

}  // namespace ithaca
