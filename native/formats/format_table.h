// The table behind format_info(), as constants that kernels can be specialised on.
#pragma once
#include "formats/format.h"

namespace switchyard {

constexpr int kFormatCount = static_cast<int>(Format::kCount);

// Non-linear 4-bit codes (llama.cpp, kvalues_iq4nl), and twice the values of FP4 E2M1 (OCP Microscaling Formats 1.0,
// table 5: 0 0.5 1 1.5 2 3 4 6 and their negatives).
constexpr int8_t kNonLinear[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kTwiceE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// In the order of the enum. Block layouts of the files: llama.cpp, ggml/src/ggml-common.h.
constexpr FormatInfo kFormatTable[kFormatCount] = {
    {"f32", 1, 4, 32, 1, ScaleKind::kNone, 0},
    {"f16", 1, 2, 16, 1, ScaleKind::kNone, 0},
    {"bf16", 1, 2, 16, 1, ScaleKind::kNone, 0},
    {"q8_0", 32, 34, 8, 32, ScaleKind::kScale, 128},
    {"q4_0", 32, 18, 4, 32, ScaleKind::kScale, 8},
    {"q4_1", 32, 20, 4, 32, ScaleKind::kScaleMin, 0},
    {"q5_0", 32, 22, 5, 32, ScaleKind::kScale, 16},
    {"q5_1", 32, 24, 5, 32, ScaleKind::kScaleMin, 0},
    {"q2_k", 256, 84, 2, 16, ScaleKind::kSuperMin, 0},
    {"q3_k", 256, 110, 3, 16, ScaleKind::kSuper, 4},
    {"q4_k", 256, 144, 4, 32, ScaleKind::kSuperMin, 0},
    {"q5_k", 256, 176, 5, 32, ScaleKind::kSuperMin, 0},
    {"q6_k", 256, 210, 6, 16, ScaleKind::kSuper, 32},
    {"iq4_nl", 32, 18, 4, 32, ScaleKind::kScale, 128, kNonLinear},
    {"iq4_xs", 256, 136, 4, 16, ScaleKind::kSuper, 128, kNonLinear},  // groups of 32, stored twice
    {"mxfp4", 32, 17, 4, 32, ScaleKind::kExponent, 16, kTwiceE2M1},
    {"tq1_0", 256, 54, 2, 32, ScaleKind::kScale, 1},  // one scale for 256, stored with every 32
    {"tq2_0", 256, 66, 2, 32, ScaleKind::kScale, 1},
    {"f8_e4m3", 1, 1, 8, 128, ScaleKind::kFloat, 0},
    {"int8", 32, 0, 8, 0, ScaleKind::kRow, 128},
    {"int8_g64", 32, 0, 8, 64, ScaleKind::kScale, 128},
    {"int8_g128", 32, 0, 8, 128, ScaleKind::kScale, 128},
    {"int4_g64", 32, 0, 4, 64, ScaleKind::kScale, 8},
    {"int4_g128", 32, 0, 4, 128, ScaleKind::kScale, 8},
};

constexpr bool is_packed_only(Format f) { return kFormatTable[static_cast<int>(f)].bytes_per_block == 0; }
// Values as they are, without scales.
constexpr bool is_float_format(Format f) { return kFormatTable[static_cast<int>(f)].scales == ScaleKind::kNone; }
// Scaled integers, which int8 products take; the others may be rounded to bf16.
constexpr bool is_integer_format(Format f) { return !is_float_format(f) && kFormatTable[static_cast<int>(f)].scales != ScaleKind::kFloat; }
// Whether a file's row of values is all that a row of the weight is made of.
constexpr bool has_stored_rows(Format f) { return !is_packed_only(f) && kFormatTable[static_cast<int>(f)].scales != ScaleKind::kFloat; }

}  // namespace switchyard
