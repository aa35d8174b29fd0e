#include "vtl/tools/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>

namespace vtl::cli {
namespace {

size_t terminal_width() {
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 80;
}

constexpr auto kRedraw = std::chrono::milliseconds(100);

}  // namespace

Terminal::Terminal()
    : interactive_(isatty(STDERR_FILENO) != 0),
      colour_(interactive_ && std::getenv("NO_COLOR") == nullptr) {}

Terminal::~Terminal() { clear(); }

void Terminal::line(const std::string& text) {
  clear();
  std::cerr << text << '\n' << std::flush;
}

void Terminal::warn(const std::string& text) {
  clear();
  std::cerr << (colour_ ? "\033[33mwarning:\033[0m " : "warning: ") << text << '\n' << std::flush;
}

void Terminal::progress(const std::string& text) {
  if (!interactive_) return;
  const auto now = std::chrono::steady_clock::now();
  if (drawn_ && now - last_ < kRedraw) return;
  last_ = now;
  drawn_ = true;
  std::cerr << "\r\033[K" << text.substr(0, terminal_width() - 1) << std::flush;
}

void Terminal::clear() {
  if (!drawn_) return;
  drawn_ = false;
  std::cerr << "\r\033[K" << std::flush;
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

std::string human_bytes(double bytes) {
  const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return fixed(bytes, unit > 2 ? 1 : 0) + " " + units[unit];
}

std::string human_seconds(double seconds) {
  if (seconds < 10) return fixed(seconds, 1) + " s";
  const auto whole = std::llround(seconds);
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return std::to_string(whole / 60) + " min " + std::to_string(whole % 60) + " s";
  return std::to_string(whole / 3600) + " h " + std::to_string(whole % 3600 / 60) + " min";
}

std::string human_count(long long count) {
  std::string digits = std::to_string(count);
  for (auto at = static_cast<long>(digits.size()) - 3; at > (count < 0 ? 1 : 0); at -= 3) digits.insert(static_cast<size_t>(at), 1, ',');
  return digits;
}

std::string per_cent(double share) { return fixed(100 * share, 1) + " %"; }

std::string left(std::string text, size_t width) {
  if (text.size() < width) text.resize(width, ' ');
  return text;
}

std::string right(std::string text, size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

}  // namespace vtl::cli
