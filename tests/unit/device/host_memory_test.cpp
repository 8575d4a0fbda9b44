// What is free, where control groups have a say, and where the system says nothing.
#include "device/cpu/host_memory.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"

namespace orcd::cpu {
namespace {

class HostMemoryTest : public testing::Test {
 protected:
  HostMemoryTest() {
    write("/proc/meminfo", "MemTotal:       2000 kB\nMemFree:        10 kB\nMemAvailable:   1000 kB\n");
  }
  ~HostMemoryTest() override { std::filesystem::remove_all(root_); }

  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ + path).parent_path());
    std::ofstream(root_ + path) << text;
  }
  void group(const std::string& name, const std::string& max, uint64_t current, uint64_t inactive_file = 0) {
    write("/sys/fs/cgroup" + name + "/memory.max", max + "\n");
    write("/sys/fs/cgroup" + name + "/memory.current", std::to_string(current) + "\n");
    write("/sys/fs/cgroup" + name + "/memory.stat",
          "anon 5\nfile 99999\ninactive_anon 3\ninactive_file " + std::to_string(inactive_file) + "\n");
  }
  uint64_t free_bytes() const { return host_memory(root_).free_bytes; }

  std::string root_ =
      testing::TempDir() + "host_memory_" + testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(HostMemoryTest, WithoutGroupsIsWhatTheKernelSays) {
  EXPECT_EQ(host_memory(root_).total_bytes, 2000u * 1024);
  EXPECT_EQ(free_bytes(), 1000u * 1024);
  group("", "max", 5000);
  EXPECT_EQ(free_bytes(), 1000u * 1024);
}

TEST_F(HostMemoryTest, TheLimitOfAContainerHolds) {
  group("", "9000", 2000);
  EXPECT_EQ(free_bytes(), 7000u);
  group("", "9000", 9500);
  EXPECT_EQ(free_bytes(), 0u);
}

// systemd's MemoryMax= stands in the service's own folder, which was not looked at (a bug).
TEST_F(HostMemoryTest, EveryGroupOfTheProcessHasASay) {
  write("/proc/self/cgroup", "0::/system.slice/worker.service\n");
  group("/system.slice/worker.service", "8000", 1000);
  EXPECT_EQ(free_bytes(), 7000u);
  group("/system.slice", "6500", 2500);
  EXPECT_EQ(free_bytes(), 4000u);
  group("", "max", 100'000);
  EXPECT_EQ(free_bytes(), 4000u);
}

// A container that had read its model file was told that there is no room for the model (a bug).
TEST_F(HostMemoryTest, CacheThatIsGivenBackIsFree) {
  group("", "9000", 8500, 8000);
  EXPECT_EQ(free_bytes(), 8500u);
  group("", "9000", 100, 8000);
  EXPECT_EQ(free_bytes(), 9000u);
}

// Counted as 0 bytes: the model did not fit, at any size (a bug).
TEST_F(HostMemoryTest, ASystemThatDoesNotSayIsAnError) {
  for (const char* text : {"", "MemTotal: 2000 kB\n"}) {
    write("/proc/meminfo", text);
    EXPECT_THROW(host_memory(root_), Error);
  }
  std::filesystem::remove(root_ + "/proc/meminfo");
  try {
    host_memory(root_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInternal);
    EXPECT_NE(error.line().find("system=No such file or directory"), std::string::npos) << error.line();
  }
}

}  // namespace
}  // namespace orcd::cpu
