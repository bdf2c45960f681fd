// ggml's block formats (ggml-common.h, ggml-quants.c). Each block is a scale (and a minimum) in float16 and
// packed small integers; the arithmetic below is in float32, multiplication and addition rounded apart (this
// file is compiled without contraction), so that results equal the `gguf` package bit for bit.
#include <bit>
#include <cstring>

#include "ithaca/base/error.h"
#include "ithaca/checkpoint/gguf.h"

namespace ithaca {
namespace {

// IEEE binary16 to binary32, exactly. Subnormals are normalised by the float unit: mantissa * 2^-24.
inline float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000U) << 16;
  const uint32_t exponent = half & 0x7C00U;
  const uint32_t mantissa = half & 0x03FFU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t bias =
      exponent == 0x7C00U ? 0x70000000U : 0x38000000U;  // infinities and NaN keep an exponent of ones
  return std::bit_cast<float>(sign | (((exponent | mantissa) << 13) + bias));
}

inline float half_at(const uint8_t* bytes) {
  uint16_t half;
  std::memcpy(&half, bytes, sizeof(half));
  return half_to_float(half);
}

// One function a format: a block of bytes in, its elements out.
void block_q4_0(const uint8_t* block,
                float* out) {  // d, 16 bytes of nibbles: element j low, element j+16 high
  const float d = half_at(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block[2 + j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block[2 + j] >> 4) - 8);
  }
}

void block_q4_1(const uint8_t* block, float* out) {  // d, m, 16 bytes of nibbles
  const float d = half_at(block);
  const float m = half_at(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(block[4 + j] & 15) + m;
    out[j + 16] = d * static_cast<float>(block[4 + j] >> 4) + m;
  }
}

// The fifth bits of 32 elements, as 0 or 16.
inline int fifth_bit(uint32_t bits, int element) {
  return static_cast<int>((bits >> element) << 4 & 16U);
}

void block_q5_0(const uint8_t* block, float* out) {  // d, 32 fifth bits, 16 bytes of nibbles
  const float d = half_at(block);
  uint32_t high;
  std::memcpy(&high, block + 2, sizeof(high));
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(((block[6 + j] & 15) | fifth_bit(high, j)) - 16);
    out[j + 16] = d * static_cast<float>(((block[6 + j] >> 4) | fifth_bit(high, j + 16)) - 16);
  }
}

void block_q5_1(const uint8_t* block, float* out) {  // d, m, 32 fifth bits, 16 bytes of nibbles
  const float d = half_at(block);
  const float m = half_at(block + 2);
  uint32_t high;
  std::memcpy(&high, block + 4, sizeof(high));
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block[8 + j] & 15) | fifth_bit(high, j)) + m;
    out[j + 16] = d * static_cast<float>((block[8 + j] >> 4) | fifth_bit(high, j + 16)) + m;
  }
}

void block_q8_0(const uint8_t* block, float* out) {  // d, 32 signed bytes
  const float d = half_at(block);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(static_cast<int8_t>(block[2 + j])) * d;
}

// d, dmin, 8 scales and 8 minima of 6 bits in 12 bytes, 128 bytes of nibbles. Sub-blocks of 32; 2k low and
// 2k+1 high nibbles of bytes 32k .. 32k+31. Scales 0..3 lie in the low 6 bits of bytes 0..3
// (minima: 4..7); 4..7 have their low 4 bits in bytes 8..11 (scale low nibble, minimum high) and their high 2
// bits in the top of bytes 0..3 (minima: 4..7).
void block_q4_k(const uint8_t* block, float* out) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  const uint8_t* packed = block + 4;
  const uint8_t* nibbles = block + 16;
  for (int sub = 0; sub < 8; ++sub) {
    const int j = sub & 3;
    const int scale = sub < 4 ? packed[j] & 63 : (packed[8 + j] & 15) | ((packed[j] >> 2) & 48);
    const int minimum = sub < 4 ? packed[4 + j] & 63 : (packed[8 + j] >> 4) | ((packed[4 + j] >> 2) & 48);
    const float step = d * static_cast<float>(scale);
    const float offset = dmin * static_cast<float>(minimum);
    const int shift = 4 * (sub & 1);
    for (int i = 0; i < 32; ++i)
      out[32 * sub + i] = step * static_cast<float>((nibbles[32 * (sub / 2) + i] >> shift) & 15) - offset;
  }
}

// 128 bytes of low nibbles, 64 of high bit pairs, 16 signed scales, d. Two halves of 128 elements, each of 4
// runs of 32: run r takes the low (r < 2) or high nibbles of the half's bytes 32 (r & 1) .. and bits 2r, 2r+1
// of its 32 bytes of pairs; scales cover 16 elements.
void block_q6_k(const uint8_t* block, float* out) {
  const float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const uint8_t* low = block + 64 * half;
    const uint8_t* high = block + 128 + 32 * half;
    const uint8_t* scales = block + 192 + 8 * half;
    for (int run = 0; run < 4; ++run)
      for (int part = 0; part < 2; ++part) {
        const float step = d * static_cast<float>(static_cast<int8_t>(scales[2 * run + part]));
        for (int i = 16 * part; i < 16 * part + 16; ++i) {
          const int nibble = (low[32 * (run & 1) + i] >> (4 * (run / 2))) & 15;
          out[128 * half + 32 * run + i] =
              step * static_cast<float>((nibble | ((high[i] >> (2 * run)) & 3) << 4) - 32);
        }
      }
  }
}

template <int kElements, int kBytes, void (*kBlock)(const uint8_t*, float*)>
void run_blocks(const uint8_t* bytes, std::span<float> out) {
  for (std::size_t block = 0; block < out.size() / kElements; ++block)
    kBlock(bytes + block * kBytes, out.data() + block * kElements);
}

void block_f16(const uint8_t* bytes, float* out) {
  *out = half_at(bytes);
}

void block_bf16(const uint8_t* bytes, float* out) {
  uint16_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  *out = std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

}  // namespace

void dequantize(GgmlType type, std::span<const std::byte> blocks, std::span<float> out) {
  const GgmlTypeInfo& info = ggml_type_info(type);
  ITHACA_CHECK(
      blocks.size() % info.block_bytes == 0 &&
          blocks.size() / info.block_bytes * static_cast<std::size_t>(info.block_elements) == out.size(),
      info.name, ": ", blocks.size(), " bytes for ", out.size(), " elements");
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(blocks.data());
  switch (type) {
    case GgmlType::kF32:
      if (!out.empty()) std::memcpy(out.data(), bytes, blocks.size());
      return;
    case GgmlType::kF16:
      return run_blocks<1, 2, block_f16>(bytes, out);
    case GgmlType::kBF16:
      return run_blocks<1, 2, block_bf16>(bytes, out);
    case GgmlType::kQ4_0:
      return run_blocks<32, 18, block_q4_0>(bytes, out);
    case GgmlType::kQ4_1:
      return run_blocks<32, 20, block_q4_1>(bytes, out);
    case GgmlType::kQ5_0:
      return run_blocks<32, 22, block_q5_0>(bytes, out);
    case GgmlType::kQ5_1:
      return run_blocks<32, 24, block_q5_1>(bytes, out);
    case GgmlType::kQ8_0:
      return run_blocks<32, 34, block_q8_0>(bytes, out);
    case GgmlType::kQ4_K:
      return run_blocks<256, 144, block_q4_k>(bytes, out);
    case GgmlType::kQ6_K:
      return run_blocks<256, 210, block_q6_k>(bytes, out);
  }
}

}  // namespace ithaca
