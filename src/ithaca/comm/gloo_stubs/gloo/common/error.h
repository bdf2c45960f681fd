// Stub: see gloo/algorithm.h.
#pragma once
