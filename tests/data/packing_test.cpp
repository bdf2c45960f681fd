// Rows against a naive twin: token by token, one growing list at a time.
#include <algorithm>
#include <numeric>
#include <optional>
#include <random>

#include "ithaca/base/error.h"
#include "ithaca/data/dataset.h"
#include "tests/data/fixture.h"

namespace ithaca {
namespace {

using Ids = std::vector<int64_t>;

struct NaiveRow {
  Ids ids, labels, positions, bounds{0};

  void add_piece(const Ids& piece) {
    for (std::size_t t = 0; t < piece.size(); ++t) {
      ids.push_back(piece[t]);
      labels.push_back(t + 1 < piece.size() ? piece[t + 1] : kNoLabel);
      positions.push_back(static_cast<int64_t>(t));
    }
    bounds.push_back(static_cast<int64_t>(ids.size()));
  }
};

std::vector<NaiveRow> naive_rows(std::vector<Ids> documents, const DatasetOptions& options) {
  int64_t left = options.max_tokens > 0 ? options.max_tokens : 1000000;
  std::vector<NaiveRow> rows;
  const std::size_t first = options.max_samples > 0
                                ? std::min<std::size_t>(documents.size(), options.max_samples)
                                : documents.size();
  for (const Ids& document : std::span(documents).first(first)) {
    Ids rest(document.begin(),
             document.begin() + std::min<int64_t>(left, static_cast<int64_t>(document.size())));
    left -= static_cast<int64_t>(rest.size());
    if (!options.packing && !rest.empty()) {
      rest.resize(std::min<std::size_t>(rest.size(), options.cutoff_len));
      rows.emplace_back().add_piece(rest);
      continue;
    }
    while (!rest.empty()) {
      if (rows.empty() || static_cast<int64_t>(rows.back().ids.size()) == options.cutoff_len)
        rows.emplace_back();
      const auto room = options.cutoff_len - static_cast<int64_t>(rows.back().ids.size());
      const auto take = std::min<int64_t>(room, static_cast<int64_t>(rest.size()));
      rows.back().add_piece(Ids(rest.begin(), rest.begin() + take));
      rest.erase(rest.begin(), rest.begin() + take);
    }
  }
  return rows;
}

Ids values(const at::Tensor& tensor, int64_t row) {
  const int64_t* data = tensor.const_data_ptr<int64_t>() + row * tensor.size(1);
  return {data, data + tensor.size(1)};
}

Ids padded(Ids ids, int64_t length, int64_t with) {
  ids.resize(static_cast<std::size_t>(length), with);
  return ids;
}

void expect_batch(const Dataset& dataset, const std::vector<NaiveRow>& rows, const Ids& indices) {
  const Batch batch = dataset.batch(indices);
  int64_t longest = 0, tokens = 0, labels = 0;
  for (const int64_t i : indices) {
    longest = std::max<int64_t>(longest, rows[i].ids.size());
    tokens += static_cast<int64_t>(rows[i].ids.size());
    labels +=
        std::count_if(rows[i].labels.begin(), rows[i].labels.end(), [](int64_t l) { return l != kNoLabel; });
  }
  ASSERT_EQ(batch.input_ids.sizes(), at::IntArrayRef({static_cast<int64_t>(indices.size()), longest}));
  EXPECT_EQ(batch.num_tokens, tokens);
  EXPECT_EQ(batch.num_labels, labels);
  ASSERT_EQ(batch.documents.size(), indices.size());
  for (std::size_t r = 0; r < indices.size(); ++r) {
    const NaiveRow& row = rows[indices[r]];
    EXPECT_EQ(values(batch.input_ids, r), padded(row.ids, longest, 0));
    EXPECT_EQ(values(batch.labels, r), padded(row.labels, longest, kNoLabel));
    EXPECT_EQ(values(batch.position_ids, r), padded(row.positions, longest, 0));
    EXPECT_EQ(batch.documents[r], row.bounds);
  }
}

class Packing : public DataTest {
 protected:
  // Bytes become ids as the fixture's tokenizer makes them.
  std::vector<Ids> add_document_file(const std::vector<std::string>& texts, bool with_bos) {
    std::string lines;
    std::vector<Ids> documents;
    for (const std::string& text : texts) {
      lines += "{\"text\": \"" + text + "\", \"other\": [1, {\"text\": 2}]}\n";
      Ids ids;
      if (with_bos) ids.push_back(257);
      for (const char c : text) ids.push_back(c + 1);
      ids.push_back(0);
      documents.push_back(ids);
    }
    file_ = write("documents.jsonl", lines);
    return documents;
  }
  std::filesystem::path file_;
};

TEST_F(Packing, EqualsTheNaiveTwinOnRandomDocuments) {
  std::mt19937 random(7);
  const auto pick = [&](int low, int high) { return low + static_cast<int>(random() % (high - low + 1)); };
  int cases = 0;
  for (int round = 0; round < 60; ++round) {
    std::vector<std::string> texts(pick(1, 9));
    for (std::string& text : texts) {
      text.resize(pick(0, 3) == 0 ? pick(0, 1) : pick(0, 40));  // many empty and one-letter ones
      for (char& c : text) c = static_cast<char>(pick('a', 'z'));
    }
    texts[pick(0, static_cast<int>(texts.size()) - 1)] = "never all empty";
    const bool with_bos = pick(0, 1);
    DatasetOptions options;
    const std::vector<Ids> documents = add_document_file(texts, with_bos);
    options.file = file_;
    options.cutoff_len = pick(2, 24);
    options.packing = pick(0, 1);
    options.max_samples = pick(0, 2) == 0 ? pick(1, 12) : 0;
    options.max_tokens = pick(0, 2) == 0 ? pick(17, 60) + 40 * with_bos : 0;
    if (pick(0, 1)) options.cache_dir = folder_ / "cache";
    SCOPED_TRACE(str("round ", round, " cutoff_len ", options.cutoff_len, " packing ", options.packing));
    const std::vector<NaiveRow> rows = naive_rows(documents, options);
    std::optional<Dataset> opened;
    try {
      opened = Dataset::open(options, byte_encoder(with_bos), kVocabulary);
    } catch (const UserError&) {  // max_tokens may leave empty documents only; that has its own test
      const bool any_label = std::any_of(rows.begin(), rows.end(), [](const NaiveRow& row) {
        return std::any_of(row.labels.begin(), row.labels.end(), [](int64_t l) { return l != kNoLabel; });
      });
      EXPECT_FALSE(any_label);
      continue;
    }
    const Dataset& dataset = *opened;
    ASSERT_EQ(dataset.size(), static_cast<int64_t>(rows.size()));
    int64_t tokens = 0;
    for (const NaiveRow& row : rows) tokens += static_cast<int64_t>(row.ids.size());
    EXPECT_EQ(dataset.num_tokens(), tokens);
    Ids all(rows.size());
    std::iota(all.begin(), all.end(), 0);
    expect_batch(dataset, rows, all);
    expect_batch(dataset, rows, {all.back()});
    std::shuffle(all.begin(), all.end(), random);
    all.push_back(all.front());
    expect_batch(dataset, rows, all);
    ++cases;
  }
  EXPECT_GT(cases, 50);
}

TEST_F(Packing, MaxSamplesTakesTheFirstDocumentsBeforePacking) {
  add_document_file({"abc", "de", "fgh"}, false);
  DatasetOptions options;
  options.file = file_;
  options.cutoff_len = 3;
  options.max_samples = 2;
  const Dataset packed = Dataset::open(options, byte_encoder(), kVocabulary);
  EXPECT_EQ(packed.num_documents(), 2);
  EXPECT_EQ(packed.num_tokens(), 7);  // "abc." "de." in rows of three
  EXPECT_EQ(packed.size(), 3);
  options.packing = false;
  const Dataset rows = Dataset::open(options, byte_encoder(), kVocabulary);
  EXPECT_EQ(rows.size(), 2);
  EXPECT_EQ(rows.num_tokens(), 6);  // each cut at three
  options.max_samples = 9;
  EXPECT_EQ(Dataset::open(options, byte_encoder(), kVocabulary).size(), 3)
      << "more than there are is no error";
}

TEST_F(Packing, ByHand) {
  DatasetOptions options;
  add_document_file({"abc", "", "defgh"}, false);
  options.file = file_;
  options.cutoff_len = 4;
  const Dataset dataset = Dataset::open(options, byte_encoder(), kVocabulary);
  ASSERT_EQ(dataset.size(), 3);  // "abc." "." + "def" "gh."
  EXPECT_EQ(dataset.num_tokens(), 11);
  EXPECT_EQ(dataset.num_documents(), 3);
  const int64_t a = 'a' + 1, n = kNoLabel;
  const Batch batch = dataset.batch(Ids{0, 1, 2});
  EXPECT_EQ(values(batch.input_ids, 0), (Ids{a, a + 1, a + 2, 0}));
  EXPECT_EQ(values(batch.labels, 0), (Ids{a + 1, a + 2, 0, n}));
  EXPECT_EQ(values(batch.input_ids, 1), (Ids{0, a + 3, a + 4, a + 5}));
  EXPECT_EQ(values(batch.labels, 1), (Ids{n, a + 4, a + 5, n}));  // the window ends: no label of the next row
  EXPECT_EQ(values(batch.position_ids, 1), (Ids{0, 0, 1, 2}));
  EXPECT_EQ(values(batch.input_ids, 2), (Ids{a + 6, a + 7, 0, 0}));
  EXPECT_EQ(values(batch.labels, 2), (Ids{a + 7, 0, n, n}));
  EXPECT_EQ(values(batch.position_ids, 2), (Ids{0, 1, 2, 0}));  // goes on as a document of its own
  EXPECT_EQ(batch.documents, (std::vector<Ids>{{0, 4}, {0, 1, 4}, {0, 3}}));
  EXPECT_EQ(batch.num_tokens, 11);
  EXPECT_EQ(batch.num_labels, 7);
}

TEST_F(Packing, NoLabelLeavesItsDocument) {
  // Each document repeats a letter of its own: a label of another letter (eos apart) would have crossed a
  // bound
  std::vector<std::string> texts;
  for (int d = 0; d < 26; ++d) texts.push_back(std::string(1 + d * 7 % 19, static_cast<char>('a' + d)));
  add_document_file(texts, true);
  int64_t seen = 0;
  for (const bool packing : {true, false}) {
    DatasetOptions options;
    options.file = file_;
    options.cutoff_len = 13;
    options.packing = packing;
    const Dataset dataset = Dataset::open(options, byte_encoder(true), kVocabulary);
    for (int64_t r = 0; r < dataset.size(); ++r) {
      const Batch batch = dataset.batch(Ids{r});
      const Ids ids = values(batch.input_ids, 0), labels = values(batch.labels, 0);
      for (std::size_t t = 0; t < ids.size(); ++t) {
        EXPECT_TRUE(ids[t] != 0 || labels[t] == kNoLabel);  // eos predicts nothing
        if (labels[t] == kNoLabel) continue;
        EXPECT_NE(labels[t], 257);  // nor does anything predict bos
        EXPECT_TRUE(ids[t] == 257 || labels[t] == 0 || labels[t] == ids[t]);
        ++seen;
      }
    }
  }
  EXPECT_GT(seen, 200);
}

TEST_F(Packing, OneTextIsOneDocumentWithItsBytesVerbatim) {
  DatasetOptions options;
  options.file = write("text.TXT", "\xC3\xA9 line\r\n\n{\"text\": 1}\n");
  options.cutoff_len = 100;
  const Dataset dataset = Dataset::open(options, byte_encoder(), kVocabulary);
  EXPECT_EQ(dataset.size(), 1);
  EXPECT_EQ(dataset.num_documents(), 1);
  EXPECT_EQ(dataset.num_tokens(), 3 + 4 + 3 + 12 + 1);
  EXPECT_EQ(values(dataset.batch(Ids{0}).input_ids, 0)[0], 0xC3 + 1);
}

TEST_F(Packing, EscapesAndForeignKeysOfJsonAreRead) {
  DatasetOptions options;
  options.file =
      write("a.jsonl", "{\"meta\": {\"text\": \"no\"}, \"text\": \"\\u00e9\\n\", \"z\": [[]]}\r\n");
  const Dataset dataset = Dataset::open(options, byte_encoder(), kVocabulary);
  EXPECT_EQ(values(dataset.batch(Ids{0}).input_ids, 0), (Ids{0xC3 + 1, 0xA9 + 1, '\n' + 1, 0}));
}

TEST_F(Packing, EmptyBatchAndForeignRow) {
  DatasetOptions options;
  options.file = write("a.txt", "abc");
  const Dataset dataset = Dataset::open(options, byte_encoder(), kVocabulary);
  const Batch batch = dataset.batch({});
  EXPECT_EQ(batch.input_ids.sizes(), at::IntArrayRef({0, 0}));
  EXPECT_EQ(batch.num_tokens, 0);
  EXPECT_TRUE(batch.documents.empty());
  EXPECT_THROW(dataset.batch(Ids{1}), Error);
  EXPECT_THROW(dataset.batch(Ids{-1}), Error);
}

}  // namespace
}  // namespace ithaca
