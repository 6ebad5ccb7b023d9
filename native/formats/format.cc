#include "formats/format.h"

#include "formats/format_table.h"

namespace switchyard {

const FormatInfo& format_info(Format f) { return kFormatTable[static_cast<int>(f)]; }

bool parse_format(std::string_view name, Format* out) {
  for (int i = 0; i < kFormatCount; i++) {
    if (name != kFormatTable[i].name) continue;
    *out = static_cast<Format>(i);
    return true;
  }
  return false;
}

}  // namespace switchyard
