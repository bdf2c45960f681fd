#include "ithaca/base/error.h"

#include <gmock/gmock.h>

namespace ithaca {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(Errors, EachKindHasItsExitCode) {
  EXPECT_EQ(UserError("a").code(), 2);
  EXPECT_EQ(NumericsError("a").code(), 3);
  EXPECT_EQ(CommunicationError("a").code(), 4);
  EXPECT_STREQ(UserError("what went wrong").what(), "what went wrong");
}

TEST(Problems, AllOfThemComeInOneUserError) {
  Problems problems;
  EXPECT_TRUE(problems.empty());
  EXPECT_NO_THROW(problems.throw_if_any("run.yaml:"));
  problems.add("lr is 0");
  problems.add("nproc is 7");
  EXPECT_FALSE(problems.empty());
  EXPECT_EQ(problems.list(), (std::vector<std::string>{"lr is 0", "nproc is 7"}));
  EXPECT_THAT([&] { problems.throw_if_any("run.yaml:"); },
              testing::ThrowsMessage<UserError>("run.yaml:\n  - lr is 0\n  - nproc is 7"));
}

TEST(Check, AFailureIsAnInternalErrorThatSaysWhere) {
  const int rows = 3;
  EXPECT_NO_THROW(ITHACA_CHECK(rows == 3));
  try {
    ITHACA_CHECK(rows == 4, "rows=", rows);
    FAIL() << "no error came";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), kInternal);
    EXPECT_THAT(error.what(), AllOf(HasSubstr("TestBody"), HasSubstr("rows == 4"), HasSubstr("rows=3")));
  }
}

}  // namespace
}  // namespace ithaca
