// packWeight, repeatWeight, readWeight, weightInfo, disposeWeight
#include "binding/weights.h"

#include "binding/arguments.h"

namespace switchyard {

template <>
struct HandleType<ProgramWeight> {
  static constexpr const char* name = "weight";
  static constexpr napi_type_tag tag{0x5c1f3f0e6a4d4b05, 0x9d2b7c3e1f5a6805};
};

std::vector<ProgramWeight> program_weights(Napi::Value value) {
  std::vector<ProgramWeight> list;
  for (const auto& weight : handles<ProgramWeight>(value, "createProgram weights")) list.push_back(*weight);
  return list;
}

void init_weights(Napi::Env, Napi::Object) {}

}  // namespace switchyard
