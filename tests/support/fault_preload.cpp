// Preloaded into the real worker (LD_PRELOAD): counts calls of one kind and lets the n-th fail, once or from
// then on. What to do stands in a file that the test maps too (ORCD_FAULT_FILE), so that it can be changed
// while the worker runs. Kinds: 0 operator new; 1 reads of regular files; 2 pthread_create; 3 writes to
// sockets.
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

constexpr int64_t kBlockOverhead =
    16;  // of malloc, so that what is freed is never less than what was asked for

enum Kind { kNew, kRead, kThread, kWrite, kKinds };

// How a read or a write fails.
enum How : uint32_t { kError, kShort, kEnd };

struct Orders {
  std::atomic<uint32_t> armed;    // kind + 1 whose calls count; 0 = none
  std::atomic<uint32_t> always;   // 1: the n-th and all later ones fail
  std::atomic<uint32_t> how;      // kError with `code`, kShort: one byte is moved, kEnd: 0 is returned
  std::atomic<int32_t> code;      // errno
  std::atomic<uint64_t> n;        // 1-based; 0 = count only
  std::atomic<uint64_t> count;    // calls since armed
  std::atomic<uint64_t> strikes;  // of them failed
};

Orders* map_orders() {
  const char* path = std::getenv("ORCD_FAULT_FILE");
  const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (fd < 0) return nullptr;
  void* memory = mmap(nullptr, sizeof(Orders), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return memory == MAP_FAILED ? nullptr : static_cast<Orders*>(memory);
}

std::atomic<Orders*> orders_ = nullptr;

bool strikes(Kind kind) {
  Orders* orders = orders_.load(std::memory_order_relaxed);
  if (!orders || orders->armed != static_cast<uint32_t>(kind) + 1) return false;
  const uint64_t i = ++orders->count;
  const uint64_t n = orders->n;
  if (n == 0 || i < n || (i > n && !orders->always)) return false;
  ++orders->strikes;
  return true;
}

template <typename F>
F next(const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

bool is_file(int fd) {
  struct stat info {};
  const int saved = errno;
  const bool is = fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
  errno = saved;
  return is;
}

bool is_socket(int fd) {
  struct stat info {};
  const int saved = errno;
  const bool is = fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode);
  errno = saved;
  return is;
}

// -2: go on as ever; otherwise what the call returns. `n` becomes 1 where it is to be short.
ssize_t fail_io(size_t* n) {
  const Orders* orders = orders_;
  switch (orders->how) {
    case kShort:
      *n = *n ? 1 : 0;
      return -2;
    case kEnd:
      return 0;
    default:
      errno = orders->code;
      return -1;
  }
}

// From the n-th allocation on the heap is full where that is to last: only what was freed since can be had
// again.
std::atomic<int64_t> n_free_ = 0;
std::atomic<bool> is_full_ = false;

bool may_have(size_t n) {
  if (strikes(kNew)) {
    if (!orders_.load()->always) return false;
    if (!is_full_.exchange(true)) n_free_ = 0;
  }
  const Orders* orders = orders_.load(std::memory_order_relaxed);
  if (!is_full_ || !orders) return true;
  if (orders->armed != kNew + 1 || !orders->always) {
    is_full_ = false;
    return true;
  }
  const auto bytes = static_cast<int64_t>(n) + kBlockOverhead;
  if (n_free_.fetch_sub(bytes) >= bytes) return true;
  n_free_ += bytes;
  return false;
}

void* allocate(size_t n, size_t alignment) {
  if (alignment <= alignof(std::max_align_t)) return std::malloc(n ? n : 1);
  return std::aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
}

// As the standard has it: the handler may make room.
void* allocate_or_throw(size_t n, size_t alignment) {
  while (!may_have(n)) {
    const std::new_handler handler = std::get_new_handler();
    if (!handler) throw std::bad_alloc();
    handler();
  }
  if (void* memory = allocate(n, alignment)) return memory;
  throw std::bad_alloc();
}

void* allocate_or_null(size_t n, size_t alignment) { return may_have(n) ? allocate(n, alignment) : nullptr; }

void give_back(void* memory) {
  if (memory && is_full_) n_free_ += static_cast<int64_t>(malloc_usable_size(memory));
  std::free(memory);
}

}  // namespace

void* operator new(size_t n) { return allocate_or_throw(n, 1); }
void* operator new[](size_t n) { return allocate_or_throw(n, 1); }
void* operator new(size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<size_t>(a)); }
void* operator new[](size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<size_t>(a)); }
void* operator new(size_t n, const std::nothrow_t&) noexcept { return allocate_or_null(n, 1); }
void* operator new[](size_t n, const std::nothrow_t&) noexcept { return allocate_or_null(n, 1); }
void operator delete(void* p) noexcept { give_back(p); }
void operator delete[](void* p) noexcept { give_back(p); }
void operator delete(void* p, size_t) noexcept { give_back(p); }
void operator delete[](void* p, size_t) noexcept { give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { give_back(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { give_back(p); }
void operator delete[](void* p, size_t, std::align_val_t) noexcept { give_back(p); }

extern "C" {

namespace {
int (*real_main)(int, char**, char**);
int main_with_orders(int argc, char** argv, char** environment) {
  orders_ = map_orders();
  const int code = real_main(argc, argv, environment);
  orders_ = nullptr;
  return code;
}
}  // namespace

// What fails before main() and after it belongs to the loader and to the libraries.
int __libc_start_main(int (*main)(int, char**, char**), int argc, char** argv, void (*init)(), void (*fini)(),
                      void (*rtld_fini)(), void* stack_end) {
  real_main = main;
  const auto real = next<decltype(&__libc_start_main)>("__libc_start_main");
  return real(main_with_orders, argc, argv, init, fini, rtld_fini, stack_end);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
  static const auto real = next<decltype(&pthread_create)>("pthread_create");
  return strikes(kThread) ? EAGAIN : real(thread, attributes, run, argument);
}

ssize_t read(int fd, void* out, size_t n) {
  static const auto real = next<decltype(&read)>("read");
  if (is_file(fd) && strikes(kRead)) {
    if (const ssize_t failed = fail_io(&n); failed != -2) return failed;
  }
  return real(fd, out, n);
}

ssize_t pread(int fd, void* out, size_t n, off_t at) {
  static const auto real = next<decltype(&pread)>("pread");
  if (is_file(fd) && strikes(kRead)) {
    if (const ssize_t failed = fail_io(&n); failed != -2) return failed;
  }
  return real(fd, out, n, at);
}

ssize_t pread64(int fd, void* out, size_t n, off64_t at) { return pread(fd, out, n, at); }

ssize_t send(int fd, const void* bytes, size_t n, int flags) {
  static const auto real = next<decltype(&send)>("send");
  if (strikes(kWrite)) {
    if (const ssize_t failed = fail_io(&n); failed != -2) return failed;
  }
  return real(fd, bytes, n, flags);
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  static const auto real = next<decltype(&sendmsg)>("sendmsg");
  if (strikes(kWrite)) {
    size_t n = message->msg_iovlen ? message->msg_iov[0].iov_len : 0;
    if (const ssize_t failed = fail_io(&n); failed != -2) return failed;
    iovec part = message->msg_iovlen ? message->msg_iov[0] : iovec{};
    part.iov_len = n;
    msghdr shorter = *message;
    shorter.msg_iov = &part;
    shorter.msg_iovlen = 1;
    return real(fd, &shorter, flags);
  }
  return real(fd, message, flags);
}

ssize_t write(int fd, const void* bytes, size_t n) {
  static const auto real = next<decltype(&write)>("write");
  if (is_socket(fd) && strikes(kWrite)) {
    if (const ssize_t failed = fail_io(&n); failed != -2) return failed;
  }
  return real(fd, bytes, n);
}

ssize_t writev(int fd, const iovec* parts, int n_parts) {
  static const auto real = next<decltype(&writev)>("writev");
  if (is_socket(fd) && n_parts > 0 && strikes(kWrite)) {
    size_t n = parts[0].iov_len;
    if (const ssize_t failed = fail_io(&n); failed != -2) return failed;
    return write(fd, parts[0].iov_base, n);
  }
  return real(fd, parts, n_parts);
}
}
