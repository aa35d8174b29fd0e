// Files of the operating system: reading at a position, and writing so that a crash leaves the old file or the new one.
// Every failure is an error that names the path and the system's reason, of the kind io unless another one is asked for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "vtl/core/error.h"

namespace vtl::io {

// An open file descriptor, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;

  int get() const { return fd_; }
  // Gives the descriptor away; this one is empty then.
  int release();

 private:
  int fd_;
};

// A directory, held open, so that files in it are found in this one even if its path changes meanwhile.
class Directory {
 public:
  explicit Directory(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  int descriptor() const { return descriptor_.get(); }
  // Whether it has an entry `name` that is a regular file (or leads to one).
  bool has_file(const std::string& name) const;

 private:
  std::filesystem::path path_;
  Descriptor descriptor_;
};

// A regular file, open for reading. Reads are safe from several threads.
class File {
 public:
  // Throws for what is no regular file (a directory, a pipe, a device). `kind` is that of all its errors.
  explicit File(const std::filesystem::path& path, ErrorKind kind = ErrorKind::io);
  File(const Directory& directory, const std::string& name);

  const std::filesystem::path& path() const { return path_; }
  ErrorKind error_kind() const { return kind_; }
  // The bytes it had when it was opened, and those it has now.
  uint64_t size() const { return size_; }
  uint64_t size_now() const;

  // Fills `bytes` from `offset` on, in pieces of at most 16 MiB; returns how many there were before the file's end.
  size_t read(uint64_t offset, std::span<std::byte> bytes) const;

 private:
  void open(int directory, const char* name);

  std::filesystem::path path_;
  ErrorKind kind_ = ErrorKind::io;
  Descriptor descriptor_;
  uint64_t size_ = 0;
};

// The whole of a file of at most `limit` bytes; a larger one is an error.
std::string read_text_file(const File& file, uint64_t limit = 16 << 20);
std::string read_text_file(const std::filesystem::path& path, uint64_t limit = 16 << 20);

// A new file that takes its place all at once: written under another name in the same directory, and renamed over
// `path` by commit() when everything is on disk. Without commit() nothing remains.
class DurableFile {
 public:
  // Reserves `bytes` where the file system can, so that a full disk shows before anything is written.
  explicit DurableFile(const std::filesystem::path& path, uint64_t bytes = 0);
  ~DurableFile();
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  // Syncs the file, renames it to its path (replacing an older one), syncs the directory. Nothing may follow.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;  // empty once committed
  Descriptor descriptor_;
};

// `text` becomes the content of `path`, all at once, as DurableFile does it.
void write_text_file(const std::filesystem::path& path, std::string_view text);

// Makes the names in a directory (new, renamed, removed) survive a crash.
void sync_directory(const std::filesystem::path& path);

}  // namespace vtl::io
