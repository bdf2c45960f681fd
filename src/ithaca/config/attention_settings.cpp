#include "ithaca/config/attention_settings.h"

#include "ithaca/base/file.h"
#include "ithaca/base/text_encoding.h"

namespace ithaca {
namespace {

constexpr int64_t kMaxBlocks = 4096;  // a side
constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20;

// The zeros and ones of one line, added to `allowed`; how many.
int64_t read_line(std::string_view line, const std::string& where, std::vector<uint8_t>& allowed) {
  int64_t count = 0;
  for (const char c : line.substr(0, line.find('#'))) {
    if (c == ' ' || c == '\t' || c == ',' || c == '\r') continue;
    if (c != '0' && c != '1')
      throw UserError(str(where, ": expected zeros and ones, one for each block of keys"));
    allowed.push_back(c == '1');
    if (++count > kMaxBlocks) throw UserError(str(where, ": more than ", kMaxBlocks, " blocks"));
  }
  return count;
}

}  // namespace

int64_t sliding_window_of(const Settings& settings, const ModelConfig& model) {
  return settings.sliding_window >= 0 ? settings.sliding_window : model.sliding_window;
}

bool uses_alibi(const Settings& settings, const ModelConfig& model) {
  return settings.position_embedding == "config" ? model.alibi : settings.position_embedding == "alibi";
}

BlockMask read_block_mask(const std::filesystem::path& file) {
  const std::string text = read_file(file, kMaxFileBytes);
  BlockMask mask;
  int64_t columns = 0, line_number = 0;
  const std::string encoding = wide_encoding_problem(text);
  if (!encoding.empty()) throw UserError(str(file.string(), ": ", encoding));
  for (std::string_view rest = without_byte_order_mark(text); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::string where = str(file.string(), ":", ++line_number);
    const int64_t count = read_line(line, where, mask.allowed);
    if (count == 0) continue;
    if (mask.blocks == 0) columns = count;
    if (count != columns)
      throw UserError(str(where, ": ", count, " blocks; expected ", columns, " as in the lines before"));
    if (++mask.blocks > columns)
      throw UserError(str(where, ": more lines than the ", columns, " blocks of a line; the mask is square"));
  }
  if (mask.blocks == 0) throw UserError(str(file.string(), ": no zeros and ones in it"));
  if (mask.blocks != columns)
    throw UserError(
        str(file.string(), ": ", mask.blocks, " lines of ", columns, " blocks; the mask is square"));
  return mask;
}

}  // namespace ithaca
