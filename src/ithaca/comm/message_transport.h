// Point-to-point messages between the processes of one group: what the CPU collectives (message_backend.h)
// are built on. Two kinds: c10d Gloo over sockets (gloo_transport.h), and reading each other's memory on one
// machine (local_transport.h). Used by one thread at a time.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ithaca {

class Message {
 public:
  virtual ~Message() = default;
  // Until it has arrived: the sender may reuse its bytes, the receiver may read them. Call once. However many
  // messages are under way, they may be waited for in any order. An exception says why it never will.
  virtual void wait() = 0;
};

class MessageTransport {
 public:
  virtual ~MessageTransport() = default;

  // Neither blocks. Ranks of the group, bytes above 0; `data` stays the caller's and valid until wait()
  // returns. Messages of one sender, receiver and tag arrive in the order in which they were posted.
  virtual std::unique_ptr<Message> send(const char* data, int64_t bytes, int to, int tag) = 0;
  virtual std::unique_ptr<Message> recv(char* data, int64_t bytes, int from, int tag) = 0;

  // The same for some ranks of this group, in this order; `own` is this process's place among them. Every
  // member calls it with the same `name`, which no other group made from this one has.
  virtual std::unique_ptr<MessageTransport> subgroup(const std::vector<int>& ranks, int own,
                                                     const std::string& name) = 0;
};

}  // namespace ithaca
