#include "ithaca/comm/internet.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "ithaca/base/error.h"

namespace ithaca {
namespace {

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Addresses resolve(const std::string& host, int port, int socket_type) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = socket_type;
  addrinfo* list = nullptr;
  const int failure = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (failure != 0)
    throw CommunicationError(
        ithaca::str("MASTER_ADDR ", host, " cannot be resolved: ", gai_strerror(failure)));
  return {list, &freeaddrinfo};
}

// 0, or why not, as errno.
int connect_to(const addrinfo& address, std::chrono::milliseconds patience) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return errno;
  int failure = ::connect(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (failure == EINPROGRESS) {
    pollfd state{fd, POLLOUT, 0};
    socklen_t length = sizeof failure;
    if (poll(&state, 1, static_cast<int>(patience.count())) != 1) {
      failure = ETIMEDOUT;
    } else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &failure, &length) != 0) {
      failure = errno;
    }
  }
  close(fd);
  return failure;
}

}  // namespace

int listen_on(const std::string& host, int port) {
  const Addresses addresses = resolve(host, port, SOCK_STREAM);
  const int fd = socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (fd < 0 || bind(fd, addresses->ai_addr, addresses->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
    const std::string cause = std::strerror(errno);
    if (fd >= 0) close(fd);
    throw CommunicationError(ithaca::str("rank 0 cannot listen on ", host, ":", port, ": ", cause,
                                         ". Choose another MASTER_PORT."));
  }
  return fd;
}

// Connecting a datagram socket sends nothing.
std::string own_address_towards(const std::string& host, int port) {
  const Addresses addresses = resolve(host, port, SOCK_DGRAM);
  const int fd = socket(addresses->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_storage own{};
  socklen_t length = sizeof own;
  char text[NI_MAXHOST] = "";
  const bool known = fd >= 0 && ::connect(fd, addresses->ai_addr, addresses->ai_addrlen) == 0 &&
                     getsockname(fd, reinterpret_cast<sockaddr*>(&own), &length) == 0 &&
                     getnameinfo(reinterpret_cast<sockaddr*>(&own), length, text, sizeof text, nullptr, 0,
                                 NI_NUMERICHOST) == 0;
  if (fd >= 0) close(fd);
  if (!known) throw CommunicationError(ithaca::str("no network interface leads to MASTER_ADDR ", host));
  return text;
}

bool answers(const std::string& host, int port, std::chrono::milliseconds patience, std::string& cause) {
  try {
    const Addresses addresses = resolve(host, port, SOCK_STREAM);
    for (const addrinfo* address = addresses.get(); address; address = address->ai_next) {
      const int failure = connect_to(*address, patience);
      if (failure == 0) return true;
      cause = std::strerror(failure);
    }
  } catch (const CommunicationError& error) {
    cause = error.what();
  }
  return false;
}

}  // namespace ithaca
