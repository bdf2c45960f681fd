#include "ithaca/parallel/memory/pages.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

// The whole pages of a buffer, and the bytes before them.
struct Pages {
  std::byte* first;
  std::size_t before, bytes;

  explicit Pages(const at::Tensor& buffer) : first(static_cast<std::byte*>(buffer.data_ptr())) {
    ITHACA_CHECK(buffer.is_contiguous(), "a tensor with strides ", buffer.strides());
    const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    before = (page - reinterpret_cast<std::uintptr_t>(first) % page) % page;
    first += before;
    bytes = before < buffer.nbytes() ? (buffer.nbytes() - before) / page * page : 0;
  }
};

}  // namespace

void use_huge_pages(const at::Tensor& buffer) {
  if (!buffer.is_cpu()) return;
  const Pages pages(buffer);
  if (pages.bytes > 0)
    ::madvise(pages.first, pages.bytes, MADV_HUGEPAGE);  // advice: a refusal changes nothing
}

void zero_pages(at::Tensor& buffer) {
  if (!buffer.is_cpu()) {
    buffer.zero_();
    return;
  }
  const Pages pages(buffer);
  auto* const data = static_cast<std::byte*>(buffer.data_ptr());
  // Refused where pages are locked in memory: they are then set to zero like the rest.
  if (pages.bytes == 0 || ::madvise(pages.first, pages.bytes, MADV_DONTNEED) != 0) {
    std::memset(data, 0, buffer.nbytes());
    return;
  }
  std::memset(data, 0, pages.before);
  std::memset(pages.first + pages.bytes, 0, buffer.nbytes() - pages.before - pages.bytes);
}

void return_freed_memory() {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace ithaca
