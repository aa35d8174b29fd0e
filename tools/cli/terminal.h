// What a person sees while the program works, on stderr: one line that is drawn again on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <string>

namespace vtl::cli {

class Terminal {
 public:
  Terminal();
  ~Terminal();

  // A line that stays.
  void line(const std::string& text);
  // A line that stays and warns.
  void warn(const std::string& text);
  // The line that is drawn again, at most ten times a second. Nothing where stderr is not a terminal.
  void progress(const std::string& text);
  // Takes that line away.
  void clear();

  bool interactive() const { return interactive_; }

 private:
  bool interactive_, colour_;
  bool drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

// "1.2 GiB", "350 MiB"
std::string human_bytes(double bytes);
// "1 h 02 min", "3 min 20 s", "12 s"
std::string human_seconds(double seconds);
// 11,689,512
std::string human_count(long long count);
// `value` with `digits` digits after the point.
std::string fixed(double value, int digits);
// "93.5 %"
std::string per_cent(double share);
// `text` filled up with spaces to `width`: on the right, or on the left.
std::string left(std::string text, size_t width);
std::string right(std::string text, size_t width);

}  // namespace vtl::cli
