// slow_fuse BACKING CONTROL MOUNTPOINT: shows the directory BACKING at MOUNTPOINT and delays or
// fails requests as the lines written to the unix socket CONTROL say (slow_rules.h). A delayed
// request does not hold up others, and direct I/O is asynchronous, as on a real disk.

#define FUSE_USE_VERSION 312
#include <dirent.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

#include "tests/support/slow_rules.h"

namespace {

using holdfast::slow_fuse::Rules;

// Requests that may wait at the same time.
constexpr unsigned kMaxThreads = 256;

Rules rules;
int backing_dir = -1;

const char* relative(const char* path) { return path[1] == '\0' ? "." : path + 1; }

int result_of(long value) { return value < 0 ? -errno : static_cast<int>(value); }

int handle_of(const fuse_file_info* info) { return static_cast<int>(info->fh); }

// Runs `access` unless the rules say that the request fails.
template <class Access>
int with_rules(const char* op, off_t offset, size_t length, Access access) {
  const Rules::Verdict verdict = rules.enter(op, static_cast<uint64_t>(offset), length);
  const int result = verdict.error != 0 ? -verdict.error : access();
  rules.leave(verdict);
  return result;
}

void* init(fuse_conn_info* connection, fuse_config* config) {
  connection->max_background = kMaxThreads;
  connection->congestion_threshold = kMaxThreads;
  connection->want |= connection->capable & FUSE_CAP_ASYNC_DIO;
  config->use_ino = 1;
  config->nullpath_ok = 0;
  config->kernel_cache = 0;
  config->attr_timeout = 0;
  return nullptr;
}

int get_attributes(const char* path, struct stat* out, fuse_file_info*) {
  return result_of(fstatat(backing_dir, relative(path), out, AT_SYMLINK_NOFOLLOW));
}

int finish_open(int fd, fuse_file_info* info) {
  if (fd < 0) return -errno;
  info->fh = static_cast<uint64_t>(fd);
  // With FOPEN_DIRECT_IO the kernel would wait for each direct write under the inode's lock.
  info->direct_io = (info->flags & O_DIRECT) == 0;
  return 0;
}

// The backing file is used through the page cache: a request's buffer is not aligned.
int open_file(const char* path, fuse_file_info* info) {
  const int flags = info->flags & ~(O_EXCL | O_CREAT | O_DIRECT);
  return finish_open(openat(backing_dir, relative(path), flags), info);
}

int create_file(const char* path, mode_t mode, fuse_file_info* info) {
  const int flags = (info->flags & ~O_DIRECT) | O_CREAT;
  return finish_open(openat(backing_dir, relative(path), flags, mode), info);
}

int release_file(const char*, fuse_file_info* info) { return result_of(close(handle_of(info))); }

int read_file(const char*, char* buffer, size_t size, off_t offset, fuse_file_info* info) {
  return with_rules("read", offset, size,
                    [&] { return result_of(pread(handle_of(info), buffer, size, offset)); });
}

int sync_file(const char*, int data_only, fuse_file_info* info) {
  return with_rules("fsync", 0, 0, [&] {
    const int fd = handle_of(info);
    return result_of(data_only != 0 ? fdatasync(fd) : fsync(fd));
  });
}

// After an asynchronous write with RWF_DSYNC the kernel calls no fsync: it tells us in the flags.
int write_file(const char* path, const char* buffer, size_t size, off_t offset,
               fuse_file_info* info) {
  const int written = with_rules("write", offset, size, [&] {
    return result_of(pwrite(handle_of(info), buffer, size, offset));
  });
  if (written < 0 || (info->flags & O_DSYNC) == 0) return written;
  const int synced = sync_file(path, 1, info);
  return synced < 0 ? synced : written;
}

int allocate(const char*, int mode, off_t offset, off_t length, fuse_file_info* info) {
  return with_rules("fallocate", offset, static_cast<size_t>(length),
                    [&] { return result_of(fallocate(handle_of(info), mode, offset, length)); });
}

off_t seek(const char*, off_t offset, int whence, fuse_file_info* info) {
  const off_t found = lseek(handle_of(info), offset, whence);
  return found < 0 ? -errno : found;
}

int truncate_file(const char* path, off_t size, fuse_file_info* info) {
  if (info != nullptr) return result_of(ftruncate(handle_of(info), size));
  const int fd = openat(backing_dir, relative(path), O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  const int result = result_of(ftruncate(fd, size));
  close(fd);
  return result;
}

int remove_file(const char* path) { return result_of(unlinkat(backing_dir, relative(path), 0)); }

int remove_directory(const char* path) {
  return result_of(unlinkat(backing_dir, relative(path), AT_REMOVEDIR));
}

int make_directory(const char* path, mode_t mode) {
  return result_of(mkdirat(backing_dir, relative(path), mode));
}

int rename_file(const char* from, const char* to, unsigned flags) {
  return result_of(renameat2(backing_dir, relative(from), backing_dir, relative(to), flags));
}

int change_mode(const char* path, mode_t mode, fuse_file_info*) {
  return result_of(fchmodat(backing_dir, relative(path), mode, 0));
}

int set_times(const char* path, const timespec times[2], fuse_file_info*) {
  return result_of(utimensat(backing_dir, relative(path), times, AT_SYMLINK_NOFOLLOW));
}

int file_system_status(const char*, struct statvfs* out) {
  return result_of(fstatvfs(backing_dir, out));
}

int list_directory(const char* path, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*,
                   fuse_readdir_flags) {
  const int fd = openat(backing_dir, relative(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  DIR* directory = fdopendir(fd);
  while (const dirent* entry = readdir(directory)) {
    fill(buffer, entry->d_name, nullptr, 0, fuse_fill_dir_flags{});
  }
  closedir(directory);
  return 0;
}

// One line, one answer, per connection.
void serve_control(int listener) {
  for (;;) {
    const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) return;
    std::string line;
    for (char byte = 0; read(fd, &byte, 1) == 1 && byte != '\n';) line.push_back(byte);
    const std::string answer = rules.command(line) + "\n";
    if (write(fd, answer.data(), answer.size()) < 0) std::perror("slow_fuse: control");
    close(fd);
  }
}

int listen_control(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof address.sun_path) return -1;
  std::strcpy(address.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return -1;
  return listen(fd, 16) == 0 ? fd : -1;
}

fuse_operations operations() {
  fuse_operations all{};
  all.init = init;
  all.getattr = get_attributes;
  all.open = open_file;
  all.create = create_file;
  all.release = release_file;
  all.read = read_file;
  all.write = write_file;
  all.fsync = sync_file;
  all.fallocate = allocate;
  all.lseek = seek;
  all.truncate = truncate_file;
  all.unlink = remove_file;
  all.rmdir = remove_directory;
  all.mkdir = make_directory;
  all.rename = rename_file;
  all.chmod = change_mode;
  all.utimens = set_times;
  all.statfs = file_system_status;
  all.readdir = list_directory;
  return all;
}

int serve(fuse* file_system, const char* mount_point) {
  if (fuse_mount(file_system, mount_point) != 0) return 1;
  fuse_set_signal_handlers(fuse_get_session(file_system));
  fuse_loop_config* config = fuse_loop_cfg_create();
  fuse_loop_cfg_set_max_threads(config, kMaxThreads);
  fuse_loop_cfg_set_idle_threads(config, kMaxThreads);
  const int status = fuse_loop_mt(file_system, config);
  fuse_loop_cfg_destroy(config);
  rules.command("clear");
  fuse_unmount(file_system);
  return status == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: slow_fuse BACKING CONTROL MOUNTPOINT\n");
    return 2;
  }
  backing_dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int control = listen_control(argv[2]);
  if (backing_dir < 0 || control < 0) {
    std::perror("slow_fuse");
    return 2;
  }
  std::thread(serve_control, control).detach();

  char name[] = "slow_fuse";
  char option[] = "-odefault_permissions,fsname=slow_fuse";
  char* arguments[] = {name, option, nullptr};
  fuse_args args = FUSE_ARGS_INIT(2, arguments);
  const fuse_operations all = operations();
  fuse* file_system = fuse_new(&args, &all, sizeof all, nullptr);
  if (file_system == nullptr) return 1;
  const int status = serve(file_system, argv[3]);
  std::fflush(nullptr);
  std::_Exit(status);  // the control thread never ends
}
