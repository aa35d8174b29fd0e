#include "vtl/io/strict_json.h"

#include <algorithm>
#include <cstring>

#include "vtl/io/safetensors_error.h"

namespace vtl::io {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool is_continuation(unsigned char c) { return (c & 0xc0) == 0x80; }

// The length of the valid UTF-8 sequence that `bytes` begins with; 0 when there is none (overlong forms, surrogates,
// values above U+10FFFF).
size_t utf8_sequence(std::string_view bytes) {
  const auto byte = [&](size_t i) { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4 || !is_continuation(byte(1))) return 0;
  if (first < 0xe0) return 2;
  if (!is_continuation(byte(2))) return 0;
  if (first < 0xf0) {
    const bool overlong = first == 0xe0 && byte(1) < 0xa0, surrogate = first == 0xed && byte(1) >= 0xa0;
    return overlong || surrogate ? 0 : 3;
  }
  if (!is_continuation(byte(3))) return 0;
  const bool overlong = first == 0xf0 && byte(1) < 0x90, too_large = first == 0xf4 && byte(1) >= 0x90;
  return overlong || too_large ? 0 : 4;
}

// The position of the first byte that is not valid UTF-8; text.size() when all are.
size_t first_bad_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    uint64_t eight;
    if (text.size() - at >= 8 && (std::memcpy(&eight, text.data() + at, 8), (eight & 0x8080808080808080u) == 0)) {
      at += 8;
      continue;
    }
    const size_t length = utf8_sequence(text.substr(at));
    if (length == 0) return at;
    at += length;
  }
  return text.size();
}

// -1 when `c` is no hexadecimal digit.
int hex_digit(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The value of four hexadecimal digits, -1 when they are not there.
int hex4(std::string_view digits) {
  if (digits.size() < 4) return -1;
  int value = 0;
  for (int i = 0; i < 4; ++i) {
    const int digit = hex_digit(digits[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

bool is_high_surrogate(int unit) { return unit >= 0xd800 && unit < 0xdc00; }
bool is_low_surrogate(int unit) { return unit >= 0xdc00 && unit < 0xe000; }

// Recursive descent over the grammar of RFC 8259; the depth limit bounds the recursion.
class Checker {
 public:
  Checker(std::string_view text, int max_depth, const std::string& source)
      : text_(text), max_depth_(max_depth), source_(source) {}

  void document() {
    space();
    const bool object = peek() == '{';
    value(0);
    space();
    if (at_ != text_.size()) expected("the end of the text");
    if (!object) refuse(SafetensorsFault::header_not_object, source_, "the JSON text is not an object");
  }

 private:
  // NUL at the end; a NUL in the text fits nothing either.
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  [[noreturn]] void expected(const char* what) const {
    if (at_ >= text_.size())
      refuse(SafetensorsFault::header_not_json, source_, "the JSON text ends at byte ", at_, ", expected ", what);
    refuse(SafetensorsFault::header_not_json, source_, "byte ", at_, " of the JSON text is ",
           in_quotes(text_.substr(at_, 1)), ", expected ", what);
  }

  void space() {
    while (is_space(peek())) ++at_;
  }

  void value(int depth) {
    switch (peek()) {
      case '{': return object(depth + 1);
      case '[': return array(depth + 1);
      case '"': return string();
      case 't': return literal("true");
      case 'f': return literal("false");
      case 'n': return literal("null");
      default: return number();
    }
  }

  void check_depth(int depth) const {
    if (depth > max_depth_)
      refuse(SafetensorsFault::header_too_deep, source_, "the JSON text nests deeper than ", max_depth_,
             " levels at byte ", at_);
  }

  void object(int depth) {
    check_depth(depth);
    ++at_;
    space();
    if (peek() == '}') return void(++at_);
    for (;;) {
      if (peek() != '"') expected("a key in quotes");
      string();
      space();
      if (peek() != ':') expected("':'");
      ++at_;
      space();
      value(depth);
      space();
      if (peek() == '}') return void(++at_);
      if (peek() != ',') expected("',' or '}'");
      ++at_;
      space();
    }
  }

  void array(int depth) {
    check_depth(depth);
    ++at_;
    space();
    if (peek() == ']') return void(++at_);
    for (;;) {
      value(depth);
      space();
      if (peek() == ']') return void(++at_);
      if (peek() != ',') expected("',' or ']'");
      ++at_;
      space();
    }
  }

  void string() {
    for (++at_; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"') return void(++at_);
      if (static_cast<unsigned char>(c) < 0x20) expected("no control character in a string");
      if (c == '\\') escape();
    }
    expected("the end of a string");
  }

  // Leaves at_ on the last character of the escape.
  void escape() {
    ++at_;
    const char c = peek();
    if (c != 'u') {
      if (c == '\0' || std::strchr("\"\\/bfnrt", c) == nullptr) expected("a JSON escape");
      return;
    }
    const int unit = hex4(text_.substr(at_ + 1));
    if (unit < 0) expected("four hexadecimal digits after \\u");
    if (is_low_surrogate(unit)) expected("no low surrogate without a high one");
    at_ += 4;
    if (!is_high_surrogate(unit)) return;
    if (text_.substr(at_ + 1, 2) != "\\u" || !is_low_surrogate(hex4(text_.substr(at_ + 3))))
      expected("a low surrogate after a high one");
    at_ += 6;
  }

  void literal(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) expected("a JSON value");
    at_ += word.size();
  }

  void digits() {
    if (!is_digit(peek())) expected("a digit");
    while (is_digit(peek())) ++at_;
  }

  // A number that JSON allows and we do not is a BadInteger; what JSON does not allow either is no JSON.
  void number() {
    const size_t begin = at_;
    if (peek() != '-' && !is_digit(peek())) expected("a JSON value");
    bool plain = peek() != '-';
    if (!plain) ++at_;
    if (peek() == '0') ++at_;
    else digits();
    if (peek() == '.') {
      plain = false;
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      plain = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    const std::string_view token = text_.substr(begin, at_ - begin);
    constexpr std::string_view kMax = "18446744073709551615";
    if (!plain || token.size() > kMax.size() || (token.size() == kMax.size() && token > kMax))
      refuse(SafetensorsFault::bad_integer, source_, "number ", token.substr(0, 40), " at byte ", begin,
             " of the JSON text, expected an integer from 0 to 2^64 - 1");
  }

  std::string_view text_;
  const int max_depth_;
  const std::string& source_;
  size_t at_ = 0;
};

}  // namespace

void check_json_object(std::string_view text, int max_depth, const std::string& source) {
  const size_t bad = first_bad_utf8(text);
  if (bad < text.size())
    refuse(SafetensorsFault::header_not_utf8, source, "byte ", bad, " of the JSON text is not valid UTF-8");
  Checker(text, max_depth, source).document();
}

char JsonReader::next() {
  while (is_space(text_[at_])) ++at_;
  return text_[at_];
}

JsonReader::Kind JsonReader::kind() {
  switch (next()) {
    case '{': return Kind::object;
    case '[': return Kind::array;
    case '"': return Kind::string;
    case 't':
    case 'f': return Kind::boolean;
    case 'n': return Kind::null;
    default: return Kind::number;
  }
}

int64_t JsonReader::members() {
  int64_t colons = 0;
  int depth = 0;
  bool in_string = false;
  next();
  for (size_t i = at_;; ++i) {
    const char c = text_[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    else if (c == ':' && depth == 1) ++colons;
    else if (c == '{' || c == '[') ++depth;
    else if ((c == '}' || c == ']') && --depth == 0) return colons;
  }
}

void JsonReader::open() {
  next();
  ++at_;
}

bool JsonReader::more() {
  const char c = next();
  if (c == ',') return ++at_, true;
  if (c != '}' && c != ']') return true;
  ++at_;
  return false;
}

JsonReader::Text JsonReader::key() {
  const Text name = string();
  next();
  ++at_;
  return name;
}

JsonReader::Text JsonReader::string() {
  next();
  const size_t begin = kept_;
  const auto put = [&](unsigned byte) { text_[kept_++] = static_cast<char>(byte); };
  const auto unit = [&] { return static_cast<uint32_t>(hex4({text_.data() + at_, 4})); };
  for (++at_; text_[at_] != '"';) {
    const char c = text_[at_++];
    if (c != '\\') {
      put(static_cast<unsigned char>(c));
      continue;
    }
    switch (const char escaped = text_[at_++]) {
      case 'b': put('\b'); break;
      case 'f': put('\f'); break;
      case 'n': put('\n'); break;
      case 'r': put('\r'); break;
      case 't': put('\t'); break;
      case 'u': {
        uint32_t code = unit();
        at_ += 4;
        if (is_high_surrogate(static_cast<int>(code))) {
          at_ += 2;
          code = 0x10000 + ((code - 0xd800) << 10) + (unit() - 0xdc00);
          at_ += 4;
        }
        if (code < 0x80) {
          put(code);
        } else if (code < 0x800) {
          put(0xc0 | code >> 6), put(0x80 | (code & 0x3f));
        } else if (code < 0x10000) {
          put(0xe0 | code >> 12), put(0x80 | (code >> 6 & 0x3f)), put(0x80 | (code & 0x3f));
        } else {
          put(0xf0 | code >> 18), put(0x80 | (code >> 12 & 0x3f)), put(0x80 | (code >> 6 & 0x3f)),
              put(0x80 | (code & 0x3f));
        }
        break;
      }
      default: put(static_cast<unsigned char>(escaped));
    }
  }
  ++at_;
  return {static_cast<uint32_t>(begin), static_cast<uint32_t>(kept_ - begin)};
}

uint64_t JsonReader::integer() {
  uint64_t value = 0;
  for (next(); is_digit(text_[at_]); ++at_) value = value * 10 + static_cast<uint64_t>(text_[at_] - '0');
  return value;
}

void JsonReader::skip() {
  const size_t before = kept_;
  switch (kind()) {
    case Kind::object: {
      std::vector<Text> keys;
      keys.reserve(static_cast<size_t>(members()));
      for (open(); more(); skip()) keys.push_back(key());
      check_distinct(keys);
      break;
    }
    case Kind::array:
      for (open(); more();) skip();
      break;
    case Kind::string: string(); break;
    case Kind::number: integer(); break;
    case Kind::boolean:
    case Kind::null:
      while (text_[at_] >= 'a' && text_[at_] <= 'z') ++at_;
      break;
  }
  rewind(before);
}

void JsonReader::check_distinct(std::vector<Text>& keys) const {
  std::sort(keys.begin(), keys.end(), [&](Text a, Text b) { return view(a) < view(b); });
  const auto twice = std::adjacent_find(keys.begin(), keys.end(), [&](Text a, Text b) { return view(a) == view(b); });
  if (twice != keys.end())
    refuse(SafetensorsFault::duplicate_key, source_, "key ", in_quotes(view(*twice)), " stands twice in one object");
}

bool is_utf8(std::string_view text) { return first_bad_utf8(text) == text.size(); }

std::string in_quotes(std::string_view name) {
  constexpr size_t kLongest = 200;
  constexpr char kHex[] = "0123456789abcdef";
  std::string text = "\"";
  for (const char c : name.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') text += '\\';
    if (byte >= 0x20 && byte < 0x7f) text += c;
    else ((text += "\\x") += kHex[byte >> 4]) += kHex[byte & 15];
  }
  return text += name.size() > kLongest ? "\"..." : "\"";
}

}  // namespace vtl::io
