#include "ithaca/data/corpus_cache.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "ithaca/base/error.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

static_assert(std::endian::native == std::endian::little);
constexpr std::string_view kMagic = "ITHACATK";
constexpr std::size_t kPieceBytes = std::size_t{8} << 20;  // some milliseconds of work

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

std::string_view field(const char (&value)[64]) {
  return {value, 64};
}

// Calls fn on pieces of `values` one after another until one returns false.
template <class T, class Function>
bool all_pieces(std::span<const T> values, const Poll& poll, Function fn) {
  constexpr std::size_t kPiece = kPieceBytes / sizeof(T);
  for (std::size_t begin = 0; begin < values.size(); begin += kPiece) {
    if (!fn(values.subspan(begin, std::min(kPiece, values.size() - begin)))) return false;
    poll();
  }
  return true;
}

bool bounds_are_right(std::span<const int64_t> bounds, uint64_t num_tokens, const Poll& poll) {
  int64_t last = 0;
  const bool sorted = all_pieces(bounds, poll, [&](std::span<const int64_t> piece) {
    const bool rises = piece.front() >= last && std::is_sorted(piece.begin(), piece.end());
    last = piece.back();
    return rises;
  });
  return sorted && bounds.front() == 0 && last == static_cast<int64_t>(num_tokens);
}

// Runs at the speed of memory: no early exit inside a piece, so that it is done in vectors.
bool ids_are_in_range(std::span<const int32_t> ids, int32_t max_id, const Poll& poll) {
  return all_pieces(ids, poll, [&](std::span<const int32_t> piece) {
    bool inside = true;
    for (const int32_t id : piece) inside &= id >= 0 && id <= max_id;
    return inside;
  });
}

std::string hash_of(std::span<const std::byte> payload, const Poll& poll) {
  Sha256 hash;
  all_pieces(payload, poll, [&](std::span<const std::byte> piece) {
    hash.update(piece);
    return true;
  });
  return hash.hex();
}

// Of an odd number of ids.
constexpr std::size_t padding_bytes(uint64_t num_tokens) {
  return num_tokens % 2 * sizeof(int32_t);
}

template <class Function>
void keep(Function&& write) {
  try {
    write();
  } catch (const UserError& error) {
    throw UserError(str("the token cache cannot be kept: ", error.what(),
                        "; free some space or set cache_dir to another folder"));
  }
}

}  // namespace

CacheWriter::CacheWriter(const fs::path& path, const std::string& key) : key_(key), file_(path) {
  ITHACA_CHECK(key.size() == sizeof(Header::key));
  const Header room{};  // without its magic this is no cache file, whatever happens
  keep([&] { file_.write(std::as_bytes(std::span(&room, 1))); });
}

void CacheWriter::write(std::span<const std::byte> bytes) {
  payload_hash_.update(bytes);
  keep([&] { file_.write(bytes); });
}

void CacheWriter::append(std::span<const int32_t> ids, std::span<const int64_t> lengths) {
  for (const int64_t length : lengths) bounds_.push_back(bounds_.back() + length);
  write(std::as_bytes(ids));
}

void CacheWriter::commit(int32_t max_id) {
  Header header{};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  header.version = kCacheVersion;
  header.max_id = max_id;
  header.num_documents = bounds_.size() - 1;
  header.num_tokens = static_cast<uint64_t>(bounds_.back());
  std::memcpy(header.key, key_.data(), sizeof header.key);
  const std::array<std::byte, sizeof(int32_t)> zeros{};
  write(std::span(zeros).first(padding_bytes(header.num_tokens)));
  write(std::as_bytes(std::span(bounds_)));
  std::memcpy(header.payload_hash, payload_hash_.hex().data(), sizeof header.payload_hash);
  std::memcpy(header.header_hash, hash_of_header(header).data(), sizeof header.header_hash);
  keep([&] {
    file_.write_at(0, std::as_bytes(std::span(&header, 1)));
    file_.commit();
  });
}

std::string load_cache(const fs::path& path, const std::string& key, CacheCheck check, const Poll& poll,
                       Corpus& corpus) {
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
  if (header.num_documents >= payload.size() || header.num_tokens > payload.size())
    return "the token cache's size is wrong";
  const std::size_t bounds_at = header.num_tokens * sizeof(int32_t) + padding_bytes(header.num_tokens);
  if (payload.size() != bounds_at + (header.num_documents + 1) * sizeof(int64_t))
    return "the token cache's size is wrong";
  if (check == CacheCheck::kEveryByte && field(header.payload_hash) != hash_of(payload, poll))
    return "the token cache's content is damaged";

  const std::span<const int32_t> ids(reinterpret_cast<const int32_t*>(payload.data()), header.num_tokens);
  const std::span<const int64_t> bounds(reinterpret_cast<const int64_t*>(payload.data() + bounds_at),
                                        header.num_documents + 1);
  if (!bounds_are_right(bounds, header.num_tokens, poll))
    return "the token cache's document bounds are wrong";
  if (!ids_are_in_range(ids, header.max_id, poll)) return "the token cache's content is damaged";
  corpus.owner = map;
  corpus.ids = ids;
  corpus.bounds = bounds;
  corpus.max_id = header.max_id;
  corpus.from_cache = true;
  return "";
}

}  // namespace ithaca
