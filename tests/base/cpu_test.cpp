#include "ithaca/base/cpu.h"

#include <gmock/gmock.h>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using testing::HasSubstr;

const Processor kHaswell{.vendor = "GenuineIntel", .avx2 = true};
const Processor kIceLake{.vendor = "GenuineIntel", .avx2 = true, .avx512 = true};
const Processor kCooperLake{.vendor = "GenuineIntel", .avx2 = true, .avx512 = true, .avx512_bf16 = true};
const Processor kSapphireRapids{
    .vendor = "GenuineIntel", .avx2 = true, .avx512 = true, .avx512_bf16 = true, .amx_bf16 = true};
const Processor kZen3{.vendor = "AuthenticAMD", .avx2 = true};
const Processor kZen4{.vendor = "AuthenticAMD", .avx2 = true, .avx512 = true, .avx512_bf16 = true};

std::string message_of(const Processor& processor, const char* wanted) {
  try {
    choose_tier(processor, wanted);
  } catch (const UserError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Cpu, Bf16GoesThroughTheFasterArithmetic) {
  EXPECT_EQ(fastest_tier(kZen4), CpuTier::kAvx512Bf16);
  EXPECT_EQ(fastest_tier(kCooperLake), CpuTier::kAvx512);
  EXPECT_EQ(fastest_tier(kSapphireRapids), CpuTier::kAvx512);
  EXPECT_EQ(fastest_tier(kIceLake), CpuTier::kAvx512);
  EXPECT_EQ(fastest_tier(kHaswell), CpuTier::kAvx2);
  EXPECT_EQ(fastest_tier(kZen3), CpuTier::kAvx2);
  EXPECT_EQ(fastest_tier({}), CpuTier::kBaseline);
  Processor unknown = kZen4;
  unknown.vendor = "CentaurHauls";
  EXPECT_EQ(fastest_tier(unknown), CpuTier::kAvx512);
}

TEST(Cpu, AtensAttentionTakesBf16WhereAmxMultiplies) {
  EXPECT_TRUE(choose_cpu(kSapphireRapids, "").aten_bf16_attention);
  for (const Processor& processor : {kCooperLake, kIceLake, kHaswell, kZen4, Processor{}})
    EXPECT_FALSE(choose_cpu(processor, "").aten_bf16_attention);
  // Who asks for a tier asks for our kernel.
  EXPECT_FALSE(choose_cpu(kSapphireRapids, "avx512_bf16").aten_bf16_attention);
}

TEST(Cpu, ATierCanBeAskedFor) {
  EXPECT_EQ(choose_tier(kZen4, "baseline"), CpuTier::kBaseline);
  EXPECT_EQ(choose_tier(kZen4, "avx2"), CpuTier::kAvx2);
  EXPECT_EQ(choose_tier(kZen4, "avx512"), CpuTier::kAvx512);
  EXPECT_EQ(choose_tier(kSapphireRapids, "avx512_bf16"), CpuTier::kAvx512Bf16);
  EXPECT_EQ(choose_tier(kSapphireRapids, ""), CpuTier::kAvx512);
}

TEST(Cpu, ATierThatIsNotHereIsNamed) {
  EXPECT_THAT(message_of(kIceLake, "avx512_bf16"),
              HasSubstr("ITHACA_CPU_TIER is \"avx512_bf16\"; this processor has baseline, avx2, avx512."));
  EXPECT_THAT(message_of({}, "avx2"), HasSubstr("this processor has baseline."));
  EXPECT_THAT(message_of(kZen4, "AVX2"),
              HasSubstr("\"AVX2\"; this processor has baseline, avx2, avx512, avx512_bf16."));
}

TEST(Cpu, EveryTierHasWhatTheOnesBeforeItHave) {
  const Processor here = this_processor();
  EXPECT_TRUE(has_tier(here, CpuTier::kBaseline));
  EXPECT_TRUE(has_tier(here, CpuTier::kAvx2) || !has_tier(here, CpuTier::kAvx512));
  EXPECT_TRUE(has_tier(here, CpuTier::kAvx512) || !has_tier(here, CpuTier::kAvx512Bf16));
  EXPECT_TRUE(has_tier(here, fastest_tier(here)));
  EXPECT_NO_THROW(choose_cpu(here, cpu_tier_name(fastest_tier(here))));
}

}  // namespace
}  // namespace ithaca
