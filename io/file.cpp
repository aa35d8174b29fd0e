#include "vtl/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "vtl/core/error.h"

namespace vtl::io {
namespace {

constexpr size_t kPiece = 16 << 20;

// Throws with the reason in errno.
[[noreturn]] void fail_system(const char* action, const std::filesystem::path& path, int reason = errno,
                              ErrorKind kind = ErrorKind::io) {
  fail(kind, "cannot ", action, " ", path.string(), ": ", std::generic_category().message(reason));
}

// The result of a system call, repeated while a signal interrupts it.
template <class Call>
auto retry(Call&& call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

std::filesystem::path parent_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ >= 0) ::close(fd_);
}

Descriptor& Descriptor::operator=(Descriptor&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

int Descriptor::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

Directory::Directory(const std::filesystem::path& path) : path_(path) {
  descriptor_ = Descriptor(retry([&] { return ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (descriptor_.get() < 0) fail_system("open directory", path);
}

bool Directory::has_file(const std::string& name) const {
  struct stat status;
  return ::fstatat(descriptor_.get(), name.c_str(), &status, 0) == 0 && S_ISREG(status.st_mode);
}

File::File(const std::filesystem::path& path, ErrorKind kind) : path_(path), kind_(kind) { open(AT_FDCWD, path.c_str()); }

File::File(const Directory& directory, const std::string& name) : path_(directory.path() / name) {
  open(directory.descriptor(), name.c_str());
}

void File::open(int directory, const char* name) {
  // Without O_NONBLOCK a pipe without a writer would hold us here.
  descriptor_ = Descriptor(retry([&] { return ::openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK); }));
  if (descriptor_.get() < 0) fail_system("open", path_, errno, kind_);
  struct stat status;
  if (::fstat(descriptor_.get(), &status) != 0) fail_system("examine", path_, errno, kind_);
  if (S_ISDIR(status.st_mode)) fail(kind_, "cannot read ", path_.string(), ": it is a directory, expected a file");
  if (!S_ISREG(status.st_mode)) fail(kind_, "cannot read ", path_.string(), ": it is no regular file");
  size_ = static_cast<uint64_t>(status.st_size);
}

uint64_t File::size_now() const {
  struct stat status;
  if (::fstat(descriptor_.get(), &status) != 0) fail_system("examine", path_, errno, kind_);
  return static_cast<uint64_t>(status.st_size);
}

size_t File::read(uint64_t offset, std::span<std::byte> bytes) const {
  size_t done = 0;
  while (done < bytes.size()) {
    const size_t piece = std::min(kPiece, bytes.size() - done);
    const ssize_t got = retry(
        [&] { return ::pread(descriptor_.get(), bytes.data() + done, piece, static_cast<off_t>(offset + done)); });
    if (got < 0) fail_system("read", path_, errno, kind_);
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

std::string read_text_file(const File& file, uint64_t limit) {
  if (file.size() > limit)
    fail(file.error_kind(), "cannot read ", file.path().string(), ": it has ", file.size(), " bytes, expected at most ",
         limit);
  std::string text(file.size(), '\0');
  text.resize(file.read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::string read_text_file(const std::filesystem::path& path, uint64_t limit) {
  return read_text_file(File(path), limit);
}

DurableFile::DurableFile(const std::filesystem::path& path, uint64_t bytes) : path_(path) {
  static std::atomic<uint64_t> counter{0};
  do {
    temporary_ = path;
    temporary_ += concat(".tmp-", ::getpid(), "-", counter++);
    descriptor_ =
        Descriptor(retry([&] { return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); }));
  } while (descriptor_.get() < 0 && errno == EEXIST);
  if (descriptor_.get() < 0) {
    temporary_.clear();
    fail_system("create", path);
  }
  if (bytes == 0) return;
  // File systems without reservation answer EOPNOTSUPP; there the writes will tell.
  const int reason = ::fallocate(descriptor_.get(), 0, 0, static_cast<off_t>(bytes)) == 0 ? 0 : errno;
  if (reason == ENOSPC || reason == EFBIG || reason == EDQUOT) {
    ::unlink(temporary_.c_str());
    fail_system(concat("reserve ", bytes, " bytes for").c_str(), path, reason);
  }
}

DurableFile::~DurableFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void DurableFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        retry([&] { return ::write(descriptor_.get(), bytes.data(), std::min(kPiece, bytes.size())); });
    if (written < 0) fail_system("write", path_);
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
}

void DurableFile::commit() {
  // What was reserved beyond the bytes written would otherwise stay as zeros.
  const off_t end = ::lseek(descriptor_.get(), 0, SEEK_CUR);
  if (end < 0 || ::ftruncate(descriptor_.get(), end) != 0) fail_system("write", path_);
  if (retry([&] { return ::fsync(descriptor_.get()); }) != 0) fail_system("write", path_);
  // Not repeated on EINTR: Linux has closed the descriptor then too.
  if (::close(descriptor_.release()) != 0 && errno != EINTR) fail_system("write", path_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail_system("replace", path_);
  temporary_.clear();
  sync_directory(parent_of(path_));
}

void write_text_file(const std::filesystem::path& path, std::string_view text) {
  DurableFile file(path);
  file.write(text);
  file.commit();
}

void sync_directory(const std::filesystem::path& path) {
  const Directory directory(path);
  // Some file systems cannot sync a directory and say EINVAL; they have nothing to lose.
  if (retry([&] { return ::fsync(directory.descriptor()); }) != 0 && errno != EINVAL)
    fail_system("sync directory", path);
}

}  // namespace vtl::io
