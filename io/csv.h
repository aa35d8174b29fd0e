// Comma-separated values after RFC 4180.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace vtl::io {

struct CsvRow {
  int64_t line = 0;  // where it begins in the text, from 1
  std::vector<std::string> fields;
};

// Fields may be quoted, with commas, line ends and doubled quotes inside. Lines end in LF or CRLF; a byte order mark
// and empty lines are skipped. Throws bad_data, beginning with `name` and the line, for a quote that is not closed or
// out of place.
std::vector<CsvRow> parse_csv(std::string_view text, const std::string& name);

// A field that is read as `text` again, whatever is in it.
std::string csv_quoted(std::string_view text);

}  // namespace vtl::io
