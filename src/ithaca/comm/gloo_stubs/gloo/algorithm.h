// The torch wheel ships ProcessGroupGloo.hpp but not gloo's headers. That class holds gloo objects only
// behind pointers, and its code lives in libtorch_cpu.so, so these five stubs are enough to compile it. Never
// construct or call a gloo object through them.
#pragma once
