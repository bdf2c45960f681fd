// One process (or thread) at a time for one file of the cache folder.
#pragma once
#include <filesystem>
#include <string>

#include "ithaca/data/host.h"

namespace ithaca {

// The kernel drops an flock with its owner, so a lock that is held is held by somebody who lives: the wait has no limit
// of its own, and ends with a stop. The lock file says who holds it, and from when; after five seconds, then every
// minute, those who wait say so. A file system without locks is said too: there everybody does the work and the last
// one's file stays, slower and as right.
class CacheLock {
 public:
  // `doing`: what is done under the lock, "FILE is tokenised". UserError where the lock file cannot be made; Stopped.
  CacheLock(const std::filesystem::path& path, const std::string& doing, const Host& host);
  ~CacheLock();
  CacheLock(const CacheLock&) = delete;
  CacheLock& operator=(const CacheLock&) = delete;

  // Removes the temporary files of `target` (see AtomicFile) that processes which were killed have left; only where the
  // lock is held: nobody else is at work on it then.
  void remove_leftovers(const std::filesystem::path& target) const;

 private:
  void wait(const std::string& path, const std::string& doing, const Host& host);
  std::string holder() const;
  void sign() const;

  int fd_;
  bool held_ = false;  // false: this file system has no locks
};

}  // namespace ithaca
