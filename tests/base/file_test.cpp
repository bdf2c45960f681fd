#include "ithaca/base/file.h"

#include <gmock/gmock.h>

#include <fstream>
#include <vector>

#include "ithaca/base/error.h"
#include "tests/support/temporary_folder.h"

namespace fs = std::filesystem;

namespace ithaca {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder))
    names.push_back(entry.path().filename());
  return names;
}

TEST(WriteFile, ReplacesTheOldContentAndLeavesNothingElse) {
  const TemporaryFolder folder;
  const std::string binary("a\0b\n", 4);
  write_file(folder / "state", "an older and longer content");
  write_file(folder / "state", binary);
  EXPECT_EQ(read_file(folder / "state", 4), binary);
  EXPECT_EQ(names_in(folder.path()), std::vector<std::string>{"state"});
}

TEST(WriteFile, AReaderOfTheOldFileKeepsIt) {  // a rename over it, not a write into it
  const TemporaryFolder folder;
  write_file(folder / "state", "old");
  const std::shared_ptr<const MappedFile> old = MappedFile::open(folder / "state");
  write_file(folder / "state", "new");
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(old->bytes().data()), old->bytes().size()), "old");
  EXPECT_EQ(read_file(folder / "state", 10), "new");
}

TEST(WriteFile, AFailureNamesThePathAndKeepsTheOldContent) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { write_file(folder / "none" / "state", "x"); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("none/state"), HasSubstr("No such file"))));
  fs::create_directory(folder / "taken");
  write_file(folder / "taken" / "inside", "kept");
  EXPECT_THAT([&] { write_file(folder / "taken", "x"); },
              ThrowsMessage<UserError>(HasSubstr("Is a directory")));
  EXPECT_EQ(read_file(folder / "taken" / "inside", 10), "kept");
}

TEST(ReadFile, SizeLimitMissingFileAndFolder) {
  const TemporaryFolder folder;
  write_file(folder / "five", "12345");
  EXPECT_EQ(read_file(folder / "five", 5), "12345");
  EXPECT_THAT([&] { read_file(folder / "five", 4); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("five"), HasSubstr("5 bytes, at most 4"))));
  EXPECT_THAT([&] { read_file(folder / "none", 4); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("none"), HasSubstr("no such file"))));
  EXPECT_THROW(read_file(folder.path(), 1 << 20), UserError);
}

TEST(ResolveInside, APlainNameStaysInside) {
  const TemporaryFolder folder;
  EXPECT_EQ(resolve_inside(folder.path(), "model-00001.safetensors", "index.json", "weight_map"),
            folder / "model-00001.safetensors");
  EXPECT_EQ(resolve_inside(folder.path(), "..model", "index.json", "weight_map"), folder / "..model");
}

class BadName : public testing::TestWithParam<std::string> {};

TEST_P(BadName, IsRefused) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { resolve_inside(folder.path(), GetParam(), "index.json", "weight_map"); },
              ThrowsMessage<UserError>(AllOf(HasSubstr("index.json: weight_map"),
                                             HasSubstr("expected a plain file name inside"))));
}
INSTANTIATE_TEST_SUITE_P(Forms, BadName,
                         testing::Values("", ".", "..", "/etc/passwd", "../model", "sub/model",
                                         "sub/../../model", "model/", "..\\model", "C:\\model"));

TEST(ResolveInside, AZeroByteIsRefused) {
  const TemporaryFolder folder;
  EXPECT_THROW(resolve_inside(folder.path(), std::string("model\0.bin", 10), "index.json", "weight_map"),
               UserError);
}

TEST(ResolveInside, WhereALinkOfAPlainNameLeadsIsTheOwnersDoing) {
  const TemporaryFolder outside, folder;
  write_file(outside / "blob", "x");
  fs::create_symlink(outside / "blob", folder / "model");
  EXPECT_EQ(resolve_inside(folder.path(), "model", "index.json", "weight_map"), folder / "model");
  EXPECT_EQ(read_file(resolve_inside(folder.path(), "model", "index.json", "weight_map"), 10), "x");
}

TEST(WriteFile, ReplacesALinkAndNotWhatItLeadsTo) {
  const TemporaryFolder outside, folder;
  write_file(outside / "original", "kept");
  fs::create_symlink(outside / "original", folder / "name");
  write_file(folder / "name", "new");
  EXPECT_FALSE(fs::is_symlink(folder / "name"));
  EXPECT_EQ(read_file(outside / "original", 10), "kept");
}

TEST(MappedFile, HoldsTheBytesAlsoOfAnEmptyFile) {
  const TemporaryFolder folder;
  write_file(folder / "data", "abc");
  write_file(folder / "empty", "");
  const std::shared_ptr<const MappedFile> data = MappedFile::open(folder / "data");
  ASSERT_EQ(data->bytes().size(), 3u);
  EXPECT_EQ(data->bytes()[2], std::byte{'c'});
  EXPECT_EQ(data->path(), folder / "data");
  EXPECT_TRUE(MappedFile::open(folder / "empty")->bytes().empty());
}

TEST(MappedFile, WhatIsNoFileIsRefused) {
  const TemporaryFolder folder;
  EXPECT_THAT([&] { MappedFile::open(folder / "none"); }, ThrowsMessage<UserError>(HasSubstr("cannot open")));
  EXPECT_THAT([&] { MappedFile::open(folder.path()); },
              ThrowsMessage<UserError>(HasSubstr("is a folder, not a file")));
}

TEST(AtomicFile, WhatKilledProcessesLeftIsRemovedAndNothingElse) {
  TemporaryFolder folder;
  for (const char* name : {"a.json.tmp.77-5", "a.json", "notes.tmp.txt", "b.tmp.", "deeper/c.json.tmp.1-2"})
    folder.write(name, "x");
  std::filesystem::create_directory(folder / "checkpoint-3.tmp.77-5");
  folder.write("b.tmp.x-1", "x");
  remove_unfinished_files(folder.path());
  EXPECT_FALSE(std::filesystem::exists(folder / "a.json.tmp.77-5"));
  for (const char* name :
       {"a.json", "notes.tmp.txt", "deeper/c.json.tmp.1-2", "checkpoint-3.tmp.77-5", "b.tmp.x-1"})
    EXPECT_TRUE(std::filesystem::exists(folder / name)) << name;
  remove_unfinished_files(folder / "absent");  // nothing to do
}

}  // namespace
}  // namespace ithaca
