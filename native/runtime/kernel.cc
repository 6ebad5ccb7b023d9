#include "runtime/kernel.h"

#include <string>

namespace switchyard {

void KernelRegistry::add(const Kernel& kernel) {
  if (find(kernel.name) != nullptr) {
    fail(ErrorCode::kNative, "[kernels] got '%.*s' twice, expected each name once",
         static_cast<int>(kernel.name.size()), kernel.name.data());
  }
  kernels_.push_back(kernel);
}

const Kernel* KernelRegistry::find(std::string_view name) const {
  for (const Kernel& kernel : kernels_) {
    if (kernel.name == name) return &kernel;
  }
  return nullptr;
}

namespace {

[[noreturn]] void refuse(const Instruction& instruction, ErrorCode code, const std::string& text) {
  throw Error(code, "[" + std::string(instruction.kernel->name) + "] " + text);
}

std::string count_text(int low, int high) {
  return low == high ? std::to_string(low) : std::to_string(low) + " to " + std::to_string(high);
}

}  // namespace

void require_counts(const Instruction& instruction, int min_in, int max_in, int min_out, int max_out) {
  const int in = static_cast<int>(instruction.in.size()), out = static_cast<int>(instruction.out.size());
  if (in < min_in || in > max_in) {
    refuse(instruction, ErrorCode::kProgram,
           "got " + std::to_string(in) + " inputs, expected " + count_text(min_in, max_in));
  }
  if (out < min_out || out > max_out) {
    refuse(instruction, ErrorCode::kProgram,
           "got " + std::to_string(out) + " outputs, expected " + count_text(min_out, max_out));
  }
}

void require_tensor(const Instruction& instruction, const Operand* operand, const char* what, DType dtype, int rank) {
  const std::string expected =
      std::string(dtype_name(dtype)) + " of rank " + std::to_string(rank) + " for '" + what + "'";
  if (operand == nullptr) refuse(instruction, ErrorCode::kProgram, "got nothing, expected " + expected);
  if (operand->weight != nullptr) refuse(instruction, ErrorCode::kProgram, "got a weight, expected " + expected);
  if (operand->dtype != dtype || operand->shape.rank != rank) {
    refuse(instruction, ErrorCode::kProgram,
           "got " + std::string(dtype_name(operand->dtype)) + " " + shape_text(operand->shape) + ", expected " +
               expected);
  }
}

void require_weight(const Instruction& instruction, const Operand* operand, const char* what) {
  if (operand != nullptr && operand->weight != nullptr) return;
  refuse(instruction, ErrorCode::kProgram,
         std::string("got ") + (operand == nullptr ? "nothing" : "a tensor") + ", expected a weight for '" + what +
             "'");
}

void require_dim(const Instruction& instruction, const char* what, int64_t got, int64_t expected) {
  if (got == expected) return;
  refuse(instruction, ErrorCode::kProgram,
         "got " + std::to_string(got) + " for '" + what + "', expected " + std::to_string(expected));
}

void require_that(const Instruction& instruction, bool ok, const char* message) {
  if (!ok) refuse(instruction, ErrorCode::kProgram, message);
}

}  // namespace switchyard
