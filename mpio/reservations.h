#pragma once
// Persistent reservations through a multipath device: this node's key on every path before the path
// carries I/O, and the few calls by which the owner of the key reserves, fences and looks.
//
// A path whose key is gone is never registered again by itself: somebody removed the key, which is
// how a node is fenced, and registering would undo the fence.
//
// Owner: Device. One operation at a time, in the order of the calls: ReservationClient.

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "common/io/shared_block_device.h"
#include "mpio/reservation_client.h"

namespace holdfast::mpio {

class Device;

class Reservations {
 public:
  using Done = io::SharedBlockDevice::Done;
  using GotState = io::SharedBlockDevice::GotState;

  explicit Reservations(Device& device, io::Loop& loop);
  Reservations(const Reservations&) = delete;
  Reservations& operator=(const Reservations&) = delete;

  uint64_t key() const { return key_; }
  void use_key(uint64_t key, Done done);
  void readmit(Done done);
  void reserve(scsi::PrType type, Done done);
  void verify_key(Done done);
  void preempt_and_abort(uint64_t victim, scsi::PrType type, Done done);
  void clear(Done done);
  void read(GotState done);

  // A path was probed: may it carry I/O? Answers with Path::probed().
  void admit(Path& path);
  // A conflict or a unit attention: is our key still there? If not, the path is UNREGISTERED.
  void verify(Path& path);

  // The device ends: nothing more is begun, what waits is answered.
  void stop();
  bool idle() const { return client_.idle(); }

 private:
  void add(ReservationClient::Operation operation) { client_.add(std::move(operation)); }
  void finish() { client_.finish(); }
  void run(Path& path, const scsi::OutgoingCdb& cdb, const scsi::PrOutParameters* parameters,
           ReservationClient::Answer answer) {
    client_.run(path, cdb, parameters, std::move(answer));
  }
  void register_next(std::vector<Path*> left, Done done);
  void let_in();
  void admitted(Path& path, PathEvent event, const char* why = "");
  void renew(Path& path);
  void look_for_key(Path& path);
  void take_back(Path& path);
  void settle_doubt(Path& path);
  void ask_for_key(Path& path, Done done);  // Errc::permission: it is gone
  void read_keys(Path& path, ReservationClient::GotKeys got) {
    client_.read_keys(path, std::move(got));
  }
  bool contains(const scsi::ReportedKeys& keys) const;
  bool beyond_doubt(const scsi::ReportedKeys& keys) const;
  void key_is_gone(Path& path);
  void change(scsi::ReserveOut action, scsi::PrType type, uint64_t victim, Done done);
  base::Result<> no_way(const Path* path) const;  // why a call cannot be made
  Path* any_path();

  Device& device_;
  io::Loop& loop_;
  uint64_t key_ = 0;
  // The owner chose the key when no path could take it: the next one that can is not asked whether
  // it is still there.
  bool unregistered_yet_ = false;
  // Paths by which we may have registered, and somebody may have preempted us just before that;
  // with PRGENERATION when our key was last seen.
  std::map<const Path*, uint32_t> doubts_;
  size_t registered_ = 0;  // paths, by the registration under way
  ReservationClient client_;
};

}  // namespace holdfast::mpio
