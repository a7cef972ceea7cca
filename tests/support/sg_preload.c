// LD_PRELOAD shim: programs that send SCSI commands with ioctl(SG_IO), such as sg3-utils, may name
// an iscsi:// URL as their device. Opening it logs in with libiscsi; the file then looks like a
// block device, and each SG_IO becomes a command of that session.
//
//   LD_PRELOAD=build/release/bin/sg_preload.so sg_inq iscsi://127.0.0.1/iqn.2026-11.org.example:t/0
//
// Environment: SG_ISCSI_INITIATOR (name) and SG_ISCSI_ISID (number, default 1): the same values
// mean the same I_T nexus in every run, so that registrations persist between commands. With
// SG_ISCSI_KEEP_UNIT_ATTENTIONS set the tool's own command gets the unit attention of a new
// session. One device per process at a time; errors of the session are printed and become EIO.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <scsi/sg.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { kScsiDiskMajor = 8, kSgVersion = 30536, kTimeoutSeconds = 60, kMaxUnitAttentions = 8 };

static struct iscsi_context* session;
static int session_fd = -1;
static int session_lun;

typedef void (*AnyFunction)(void);
typedef int (*OpenFunction)(const char*, int, ...);
typedef int (*CloseFunction)(int);
typedef int (*IoctlFunction)(int, unsigned long, ...);
typedef int (*FstatFunction)(int, struct stat*);
typedef int (*Fstat64Function)(int, struct stat64*);
typedef int (*StatFunction)(const char*, struct stat*);
typedef int (*Stat64Function)(const char*, struct stat64*);

static AnyFunction next(const char* name) {
  void* symbol = dlsym(RTLD_NEXT, name);
  if (symbol == NULL) {
    fprintf(stderr, "sg_preload: no %s in the C library\n", name);
    abort();
  }
  AnyFunction function;  // ISO C has no cast from an object to a function pointer
  memcpy(&function, &symbol, sizeof function);
  return function;
}

static int is_url(const char* path) { return path != NULL && strncmp(path, "iscsi://", 8) == 0; }

static void end_session(void) {
  iscsi_logout_sync(session);
  iscsi_destroy_context(session);
  session = NULL;
  session_fd = -1;
}

// What a kernel does when it finds a disk, so that the tool's command is not the one that gets the
// unit attention of the new session.
static void consume_unit_attentions(void) {
  for (int i = 0; i < kMaxUnitAttentions; ++i) {
    struct scsi_task* task = iscsi_testunitready_sync(session, session_lun);
    const int again = task != NULL && task->status == SCSI_STATUS_CHECK_CONDITION &&
                      task->sense.key == SCSI_SENSE_UNIT_ATTENTION;
    if (task != NULL) scsi_free_scsi_task(task);
    if (!again) return;
  }
}

static int log_in(const char* text) {
  const char* name = getenv("SG_ISCSI_INITIATOR");
  const char* isid = getenv("SG_ISCSI_ISID");
  session = iscsi_create_context(name != NULL ? name : "iqn.2026-11.org.holdfast:sg");
  struct iscsi_url* url = iscsi_parse_full_url(session, text);
  if (url == NULL) goto failed;
  iscsi_set_isid_random(session, isid != NULL ? (uint32_t)strtoul(isid, NULL, 0) : 1, 0);
  iscsi_set_session_type(session, ISCSI_SESSION_NORMAL);
  iscsi_set_targetname(session, url->target);
  iscsi_set_header_digest(session, ISCSI_HEADER_DIGEST_NONE_CRC32C);
  iscsi_set_timeout(session, kTimeoutSeconds);
  iscsi_set_noautoreconnect(session, 1);
  if (url->user[0] != '\0') iscsi_set_initiator_username_pwd(session, url->user, url->passwd);
  if (iscsi_connect_sync(session, url->portal) != 0 || iscsi_login_sync(session) != 0) goto failed;
  session_lun = url->lun;
  if (getenv("SG_ISCSI_KEEP_UNIT_ATTENTIONS") == NULL) consume_unit_attentions();
  iscsi_destroy_url(url);
  return 0;

failed:
  fprintf(stderr, "sg_preload: %s: %s\n", text, iscsi_get_error(session));
  iscsi_destroy_context(session);
  session = NULL;
  return -1;
}

static int open_device(const char* path) {
  if (session != NULL) {
    errno = EBUSY;
    return -1;
  }
  if (log_in(path) != 0) {
    errno = ENXIO;
    return -1;
  }
  const OpenFunction next_open = (OpenFunction)next("open");
  session_fd = next_open("/dev/null", O_RDWR | O_CLOEXEC);
  return session_fd;
}

static int open_as(const char* function, const char* path, int flags, mode_t mode) {
  if (is_url(path)) return open_device(path);
  const OpenFunction next_open = (OpenFunction)next(function);
  return next_open(path, flags, mode);
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open_as("open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return open_as("open64", path, flags, mode);
}

// What fortified programs call for open without a mode.
int __open_2(const char* path, int flags);
int __open_2(const char* path, int flags) { return open_as("open", path, flags, 0); }
int __open64_2(const char* path, int flags);
int __open64_2(const char* path, int flags) { return open_as("open64", path, flags, 0); }

int close(int fd) {
  if (session != NULL && fd == session_fd) end_session();
  const CloseFunction next_close = (CloseFunction)next("close");
  return next_close(fd);
}

static void look_like_disk(mode_t* mode, dev_t* device) {
  *mode = S_IFBLK | 0600;
  *device = makedev(kScsiDiskMajor, 0);
}

int fstat(int fd, struct stat* out) {
  const FstatFunction next_fstat = (FstatFunction)next("fstat");
  const int result = next_fstat(fd, out);
  if (result == 0 && fd == session_fd) look_like_disk(&out->st_mode, &out->st_rdev);
  return result;
}

int fstat64(int fd, struct stat64* out) {
  const Fstat64Function next_fstat = (Fstat64Function)next("fstat64");
  const int result = next_fstat(fd, out);
  if (result == 0 && fd == session_fd) look_like_disk(&out->st_mode, &out->st_rdev);
  return result;
}

int stat(const char* path, struct stat* out) {
  if (is_url(path)) {
    memset(out, 0, sizeof *out);
    look_like_disk(&out->st_mode, &out->st_rdev);
    return 0;
  }
  const StatFunction next_stat = (StatFunction)next("stat");
  return next_stat(path, out);
}

int stat64(const char* path, struct stat64* out) {
  if (is_url(path)) {
    memset(out, 0, sizeof *out);
    look_like_disk(&out->st_mode, &out->st_rdev);
    return 0;
  }
  const Stat64Function next_stat = (Stat64Function)next("stat64");
  return next_stat(path, out);
}

static void report_sense(sg_io_hdr_t* io, const struct scsi_task* task) {
  // libiscsi leaves the sense segment as received: a length of two bytes, then the sense data.
  if (task->datain.size < 2 || io->sbp == NULL) return;
  int length = task->datain.data[0] << 8 | task->datain.data[1];
  if (length > task->datain.size - 2) length = task->datain.size - 2;
  if (length > io->mx_sb_len) length = io->mx_sb_len;
  memcpy(io->sbp, task->datain.data + 2, (size_t)length);
  io->sb_len_wr = (unsigned char)length;
}

static int run_command(sg_io_hdr_t* io) {
  if (io->interface_id != 'S' || io->cmd_len > SCSI_CDB_MAX_SIZE || io->iovec_count != 0) {
    errno = EINVAL;
    return -1;
  }
  const int writes = io->dxfer_direction == SG_DXFER_TO_DEV;
  const int reads =
      io->dxfer_direction == SG_DXFER_FROM_DEV || io->dxfer_direction == SG_DXFER_TO_FROM_DEV;
  const int length = writes || reads ? (int)io->dxfer_len : 0;
  int direction = SCSI_XFER_NONE;
  if (length > 0) direction = writes ? SCSI_XFER_WRITE : SCSI_XFER_READ;
  struct scsi_task* task = scsi_create_task(io->cmd_len, io->cmdp, direction, length);
  if (reads && length > 0) scsi_task_add_data_in_buffer(task, length, io->dxferp);
  struct iscsi_data out = {.size = (size_t)length, .data = io->dxferp};
  if (iscsi_scsi_command_sync(session, session_lun, task, writes ? &out : NULL) == NULL ||
      task->status > 0xff) {
    fprintf(stderr, "sg_preload: %s\n", iscsi_get_error(session));
    scsi_free_scsi_task(task);
    errno = EIO;
    return -1;
  }
  io->status = (unsigned char)task->status;
  io->masked_status = (unsigned char)(task->status >> 1 & 0x1f);
  io->host_status = 0;
  io->driver_status = 0;
  io->sb_len_wr = 0;
  io->resid = task->residual_status == SCSI_RESIDUAL_UNDERFLOW ? (int)task->residual : 0;
  io->info = task->status == 0 ? SG_INFO_OK : SG_INFO_CHECK;
  if (task->status == SCSI_STATUS_CHECK_CONDITION) report_sense(io, task);
  scsi_free_scsi_task(task);
  return 0;
}

int ioctl(int fd, unsigned long request, ...) {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  if (session == NULL || fd != session_fd) {
    const IoctlFunction next_ioctl = (IoctlFunction)next("ioctl");
    return next_ioctl(fd, request, argument);
  }
  if (request == SG_IO) return run_command(argument);
  if (request == SG_GET_VERSION_NUM) {
    *(int*)argument = kSgVersion;
    return 0;
  }
  errno = ENOTTY;
  return -1;
}
