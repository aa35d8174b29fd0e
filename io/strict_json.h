// Strict JSON for files that nobody vouches for: bounded depth, integers below 2^64 only, no allocation.
// `check_json` accepts or refuses a text as a whole; `JsonReader` then walks it without looking for errors again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vtl::io {

// Throws a SafetensorsError (HeaderNotUtf8, HeaderNotJson, HeaderTooDeep, BadInteger, then HeaderNotObject) unless
// `text` is valid UTF-8 without a byte order mark and holds exactly one JSON object with white space around it, nested
// `max_depth` levels at most, whose numbers are all plain integers. `source` names the file in messages.
void check_json_object(std::string_view text, int max_depth, const std::string& source);

// Walks text that check_json_object has accepted. Strings are unescaped into the front of the same memory, which is
// always behind the reading position, so reading needs no memory of its own and overwrites the text.
class JsonReader {
 public:
  enum class Kind { object, array, string, number, boolean, null };

  // A string that was read: a place in the memory of the text.
  struct Text {
    uint32_t at;
    uint32_t size;
  };

  // `text` has fewer than 2^32 bytes and outlives the reader; `source` names the file in messages.
  JsonReader(std::span<char> text, const std::string& source) : text_(text), source_(source) {}

  Kind kind();  // of the next value

  // How many members the object that comes next has. Consumes nothing.
  int64_t members();

  // An object is read by: open(); while (more()) { key(); ...one value... }; an array the same way without key().
  void open();
  bool more();
  Text key();
  Text string();
  uint64_t integer();

  // Passes over one value of any kind. Throws DuplicateKey for an object in it that has a key twice.
  void skip();

  // Throws DuplicateKey when two of the keys are equal. Reorders them.
  void check_distinct(std::vector<Text>& keys) const;

  std::string_view view(Text text) const { return {text_.data() + text.at, text.size}; }

  // Strings read so far lie in the first kept() bytes. rewind() gives up those past `kept`, to be overwritten.
  size_t kept() const { return kept_; }
  void rewind(size_t kept) { kept_ = kept; }
  // Puts a byte after the kept strings. There is room for one byte for each byte of a value that was read.
  void keep(char byte) { text_[kept_++] = byte; }

 private:
  char next();  // the next character that is not white space, not consumed

  std::span<char> text_;
  const std::string& source_;
  size_t at_ = 0;
  size_t kept_ = 0;
};

// No overlong forms, no surrogates, nothing above U+10FFFF.
bool is_utf8(std::string_view text);

// A name from a file as it may stand in a message: in quotes, everything but printable ASCII escaped, long ones cut.
std::string in_quotes(std::string_view name);

}  // namespace vtl::io
