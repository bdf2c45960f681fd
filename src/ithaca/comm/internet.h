// The few things about IP addresses that a rendezvous needs.
#pragma once
#include <chrono>
#include <string>

namespace ithaca {

// A socket that listens on the interface of `host` only. CommunicationError.
int listen_on(const std::string& host, int port);

// The address of the interface that leads to `host`. CommunicationError.
std::string own_address_towards(const std::string& host, int port);

// Whether somebody listens there; waits at most `patience` for an answer. Else `cause` says what went wrong.
bool answers(const std::string& host, int port, std::chrono::milliseconds patience, std::string& cause);

}  // namespace ithaca
