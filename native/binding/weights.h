// Packed weights as JavaScript holds them.
#pragma once
#include "binding/napi.h"

#include <vector>

#include "runtime/program.h"

namespace switchyard {

// An array of weight handles, as the program loader takes them.
std::vector<ProgramWeight> program_weights(Napi::Value value);

}  // namespace switchyard
