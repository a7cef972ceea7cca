#include "common/io/file_claims.h"

#include <gtest/gtest.h>

namespace holdfast::io {
namespace {

TEST(FileClaims, AFileIsItsInodeAndADeviceItsNumber) {
  struct stat file{}, same{}, other{}, device{}, node{};
  file.st_mode = same.st_mode = other.st_mode = S_IFREG;
  file.st_dev = same.st_dev = other.st_dev = 1;
  file.st_ino = same.st_ino = 7;
  other.st_ino = 8;
  EXPECT_EQ(FileClaims::key_of(file), FileClaims::key_of(same));
  EXPECT_NE(FileClaims::key_of(file), FileClaims::key_of(other));
  device.st_mode = node.st_mode = S_IFBLK;  // two nodes in /dev of one device
  device.st_rdev = node.st_rdev = 0x700;
  device.st_ino = 1;
  node.st_ino = 2;
  EXPECT_EQ(FileClaims::key_of(device), FileClaims::key_of(node));
}

TEST(FileClaims, TheOthersStayWhenOneOfSeveralGoes) {
  const FileClaims::Key key{.device = 1, .inode = 7};
  FileClaims claims;
  EXPECT_EQ(claims.path_of(key), "");
  claims.add(key, "/srv/a");
  claims.add(key, "/srv/b");  // both shared
  claims.remove(key, "/srv/a");
  EXPECT_EQ(claims.path_of(key), "/srv/b");
  EXPECT_EQ(claims.path_of({.device = 1, .inode = 8}), "");
  claims.remove(key, "/srv/b");
  EXPECT_EQ(claims.path_of(key), "");
}

}  // namespace
}  // namespace holdfast::io
