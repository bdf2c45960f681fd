// Memory of the CPU, page by page: what is not in use goes back to the system. Other devices' tensors need
// none of it.
#pragma once
#include <ATen/core/Tensor.h>

namespace ithaca {

// Asks for pages of 2 MB under a buffer (transparent huge pages): each is handed out at once instead of 512
// times. For buffers that are written whole. No effect where the system has none.
void use_huge_pages(const at::Tensor& buffer);

// buffer.zero_(). The whole pages of a CPU tensor are also given back to the system and cost no memory until
// they are written again. `buffer` is contiguous and of ATen's own allocation (private memory, no file).
void zero_pages(at::Tensor& buffer);

// Gives back the pages of everything that was freed: malloc keeps what lies below memory still in use. What is
// allocated next costs its pages' zeroing again.
void return_freed_memory();

}  // namespace ithaca
