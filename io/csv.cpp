#include "vtl/io/csv.h"

#include <utility>

#include "vtl/core/error.h"

namespace vtl::io {
namespace {

class Reader {
 public:
  Reader(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  bool done() const { return at_ == text_.size(); }

  CsvRow row() {
    CsvRow row;
    row.line = line_;
    do row.fields.push_back(text_.substr(at_, 1) == "\"" ? quoted() : plain());
    while (skip(","));
    if (!done() && !line_end()) fail_here("a quoted field goes on after its closing quote");
    return row;
  }

 private:
  [[noreturn]] void fail_here(const char* what) const { fail(ErrorKind::bad_data, name_, ":", line_, ": ", what); }

  bool skip(std::string_view token) {
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }

  bool line_end() {
    if (!skip("\r\n") && !skip("\n")) return false;
    ++line_;
    return true;
  }

  std::string plain() {
    const size_t begin = at_;
    while (!done() && text_[at_] != ',' && text_[at_] != '\n' && text_.substr(at_, 2) != "\r\n") {
      if (text_[at_] == '"') fail_here("a quote inside a field that is not quoted");
      ++at_;
    }
    return std::string(text_.substr(begin, at_ - begin));
  }

  std::string quoted() {
    const int64_t opened = line_;
    std::string field;
    for (++at_; !done(); ++at_) {
      if (text_[at_] == '"' && !(text_.substr(at_, 2) == "\"\"")) {
        ++at_;
        return field;
      }
      if (text_[at_] == '"') ++at_;
      if (text_[at_] == '\n') ++line_;
      field += text_[at_];
    }
    line_ = opened;
    fail_here("a quote is never closed");
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
  int64_t line_ = 1;
};

}  // namespace

std::vector<CsvRow> parse_csv(std::string_view text, const std::string& name) {
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  Reader reader(text, name);
  std::vector<CsvRow> rows;
  while (!reader.done()) {
    CsvRow row = reader.row();
    if (row.fields.size() > 1 || !row.fields[0].empty()) rows.push_back(std::move(row));
  }
  return rows;
}

std::string csv_quoted(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + '"';
}

}  // namespace vtl::io
