#include "ithaca/data/corpus_cache.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "ithaca/base/error.h"
#include "ithaca/base/file.h"
#include "ithaca/base/hash.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

static_assert(std::endian::native == std::endian::little);
constexpr std::string_view kMagic = "ITHACATK";

struct Header {
  char magic[8];
  uint32_t version;
  int32_t max_id;
  uint64_t num_documents;
  uint64_t num_tokens;
  char key[64];           // hex
  char payload_hash[64];  // SHA-256 of all that follows the header, hex
  char header_hash[64];   // of the fields above, hex
};
static_assert(sizeof(Header) == 224 && sizeof(Header) % alignof(int64_t) == 0);

std::string hash_of_header(const Header& header) {
  Sha256 hash;
  hash.update(std::string_view(reinterpret_cast<const char*>(&header), offsetof(Header, header_hash)));
  return hash.hex();
}

template <class T>
std::span<const std::byte> bytes_of(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

std::string_view field(const char (&value)[64]) {
  return {value, 64};
}

bool bounds_are_right(std::span<const int64_t> bounds, uint64_t num_tokens) {
  return bounds.front() == 0 && bounds.back() == static_cast<int64_t>(num_tokens) &&
         std::is_sorted(bounds.begin(), bounds.end());
}

// Runs at the speed of memory: no early exit, so that it is done in vectors.
bool ids_are_in_range(std::span<const int32_t> ids, int32_t max_id) {
  bool inside = true;
  for (const int32_t id : ids) inside &= id >= 0 && id <= max_id;
  return inside;
}

}  // namespace

void write_cache(const fs::path& path, const std::string& key, const TokenizedDocuments& documents) {
  ITHACA_CHECK(key.size() == sizeof(Header::key));
  Header header{};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  header.version = kCacheVersion;
  header.max_id = documents.max_id;
  header.num_documents = documents.bounds.size() - 1;
  header.num_tokens = documents.ids.size();
  std::memcpy(header.key, key.data(), sizeof header.key);
  Sha256 payload;
  payload.update(bytes_of(documents.bounds));
  payload.update(bytes_of(documents.ids));
  std::memcpy(header.payload_hash, payload.hex().data(), sizeof header.payload_hash);
  std::memcpy(header.header_hash, hash_of_header(header).data(), sizeof header.header_hash);

  try {
    AtomicFile file(path);
    file.write(std::as_bytes(std::span(&header, 1)));
    file.write(bytes_of(documents.bounds));
    file.write(bytes_of(documents.ids));
    file.commit();
  } catch (const UserError& error) {
    throw UserError(str("the token cache cannot be kept: ", error.what(),
                        "; free some space or set cache_dir to another folder"));
  }
}

std::string load_cache(const fs::path& path, const std::string& key, CacheCheck check, Corpus& corpus) {
  const auto map = MappedFile::open(path);
  const auto bytes = map->bytes();
  if (bytes.size() < sizeof(Header)) return "the token cache is cut short";
  Header header;
  std::memcpy(&header, bytes.data(), sizeof header);
  if (std::string_view(header.magic, sizeof header.magic) != kMagic) return "this is no token cache";
  if (field(header.header_hash) != hash_of_header(header)) return "the token cache's header is damaged";
  if (header.version != kCacheVersion || field(header.key) != key)
    return "the token cache belongs to another file or tokenizer";

  const auto payload = bytes.subspan(sizeof(Header));
  // Bounded before they are multiplied: no product below can overflow
  if (header.num_documents >= payload.size() || header.num_tokens > payload.size() ||
      payload.size() != (header.num_documents + 1) * sizeof(int64_t) + header.num_tokens * sizeof(int32_t))
    return "the token cache's size is wrong";
  if (check == CacheCheck::kEveryByte) {
    Sha256 hash;
    hash.update(payload);
    if (field(header.payload_hash) != hash.hex()) return "the token cache's content is damaged";
  }

  corpus.owner = map;
  corpus.bounds = {reinterpret_cast<const int64_t*>(payload.data()), header.num_documents + 1};
  corpus.ids = {reinterpret_cast<const int32_t*>(corpus.bounds.data() + corpus.bounds.size()),
                header.num_tokens};
  if (!bounds_are_right(corpus.bounds, header.num_tokens))
    return "the token cache's document bounds are wrong";
  if (!ids_are_in_range(corpus.ids, header.max_id)) return "the token cache's content is damaged";
  corpus.max_id = header.max_id;
  corpus.from_cache = true;
  return "";
}

}  // namespace ithaca
