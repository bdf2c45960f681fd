// What communicator.h and message_transport.h promise of messages: waited for in any order, however many.
#pragma once
#include "ithaca/comm/communicator.h"

namespace ithaca {

// Every rank above 0 posts 500 sends to rank 0, which receives one after another in another order: reversed, drawn at
// random, and mixed with messages of a subgroup and of shared tags; the senders wait in yet another order. Collective.
// Throws std::runtime_error that names the message whose content is wrong.
void exchange_in_any_order(Communicator& world);

}  // namespace ithaca
