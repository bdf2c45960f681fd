// What a container may do to a process, done to this one, for good.
#pragma once
#include <string>

namespace ithaca {

// "": nothing. "kill": a filter ends who calls process_vm_readv. "errno N": it gives that error. "no files": no
// file may grow.
void change_surroundings(const std::string& how);

}  // namespace ithaca
