// A stranger's text files: any bytes are refused with a UserError or give documents, the same ones whatever the number
// of threads. The first byte says what the file is called; the rest is the file.
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "ithaca/base/error.h"
#include "ithaca/base/text_encoding.h"
#include "ithaca/data/corpus.h"
#include "ithaca/data/json_record.h"

namespace {

using namespace ithaca;

// One file a process, in the memory of the machine where it can be.
std::string file_name(bool jsonl) {
  const std::filesystem::path shm = "/dev/shm";
  const auto folder = std::filesystem::exists(shm) ? shm : std::filesystem::temp_directory_path();
  return folder / str("ithaca-fuzz-", ::getpid(), jsonl ? ".jsonl" : ".txt");
}

std::vector<int32_t> ids_of(const std::string& file, int threads) {
  DocumentEncoder encoder;
  encoder.encode = [](std::string_view text, const Poll&, std::vector<int32_t>& ids) {
    ITHACA_CHECK(!find_invalid_utf8(text) && !text.starts_with("\xEF\xBB\xBF"));
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c) + 1);
  };
  try {
    const Corpus corpus = open_corpus(file, encoder, {.cache_dir = {}, .threads = threads});
    ITHACA_CHECK(corpus.bounds.back() == static_cast<int64_t>(corpus.ids.size()));
    return {corpus.ids.begin(), corpus.ids.end()};
  } catch (const UserError&) {
    return {-1};
  }
}

// What a general parser reads without a complaint is read here alike. (A zero byte ends the text for that one.)
void compare_with_general_parser(std::string_view line) {
  const JsonRecord record(line, "text");
  if (line.find('\0') != std::string_view::npos || !nlohmann::json::accept(line)) return;
  int times = 0;
  const auto count = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    times += depth == 1 && event == nlohmann::json::parse_event_t::key && parsed == "text";
    return true;
  };
  const nlohmann::json value = nlohmann::json::parse(line, count);
  if (!value.is_object() || times != 1 || !value["text"].is_string()) {
    ITHACA_CHECK(!record.problem().empty());
  } else if (record.problem().find("nested deeper") == std::string::npos) {
    ITHACA_CHECK(record.problem().empty(), record.problem());
    ITHACA_CHECK(record.text() == value["text"].get<std::string>());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const bool jsonl = data[0] % 4 != 0;
  if (jsonl) compare_with_general_parser(without_byte_order_mark(bytes.substr(0, bytes.find('\n'))));
  const std::string file = file_name(jsonl);
  std::ofstream(file, std::ios::binary) << bytes;
  const std::vector<int32_t> ids = ids_of(file, 1);
  if (data[0] % 16 == 1) ITHACA_CHECK(ids == ids_of(file, 3));
  std::filesystem::remove(file);
  return 0;
}
